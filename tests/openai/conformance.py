"""The official openai client against a running LIME server. See run.sh for what it is told by the environment."""

import asyncio
import os
import sys
import unittest

import openai

BASE_URL = os.environ.get("LIME_BASE_URL", "")
KEY = os.environ.get("LIME_API_KEY")
CAPACITY = int(os.environ.get("LIME_CAPACITY", "0"))
SETTINGS = {"base_url": BASE_URL, "api_key": KEY or "none", "max_retries": 0, "timeout": 120}
QUESTION = [{"role": "user", "content": "ROMEO:"}]


class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = openai.OpenAI(**SETTINGS)
        cls.model = cls.client.models.list().data[0].id

    def chat(self, **fields):
        wish = {"model": self.model, "messages": QUESTION, "max_tokens": 24, "temperature": 0} | fields
        return self.client.chat.completions.create(**wish)

    def text(self, **fields):
        wish = {"model": self.model, "prompt": "ROMEO:", "max_tokens": 24, "temperature": 0} | fields
        return self.client.completions.create(**wish)

    # What there is

    def test_models(self):
        page = self.client.models.list()
        self.assertEqual(page.object, "list")
        self.assertEqual(page.data[0].object, "model")
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    # Answers

    def test_chat(self):
        answer = self.chat()
        choice = answer.choices[0]
        self.assertEqual(answer.object, "chat.completion")
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertEqual(choice.message.role, "assistant")
        self.assertTrue(choice.message.content)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertTrue(answer.system_fingerprint)
        self.assertTrue(answer._request_id)
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_chat_takes_roles_and_parts(self):
        parts = [{"type": "text", "text": "ROMEO:"}]
        messages = [{"role": "system", "content": "Speak."}, {"role": "user", "content": parts}]
        whole = [{"role": "system", "content": "Speak."}, *QUESTION]
        self.assertEqual(
            self.chat(messages=messages).choices[0].message.content, self.chat(messages=whole).choices[0].message.content
        )

    def test_completion(self):
        answer = self.text()
        self.assertEqual(answer.object, "text_completion")
        self.assertTrue(answer.choices[0].text)
        self.assertEqual(self.text(echo=True).choices[0].text, "ROMEO:" + answer.choices[0].text)

    def test_several_prompts(self):
        alone = [self.text(prompt=prompt).choices[0].text for prompt in ("ROMEO:", "JULIET:")]
        together = self.text(prompt=["ROMEO:", "JULIET:"])
        self.assertEqual([choice.text for choice in together.choices], alone)
        self.assertEqual([choice.index for choice in together.choices], [0, 1])

    def test_token_ids_as_prompt(self):
        drawn = self.text(extra_body={"return_token_ids": True}).choices[0].token_ids
        answer = self.text(prompt=drawn[:4])
        self.assertEqual(answer.usage.prompt_tokens, 4)

    def test_limit(self):
        answer = self.chat(max_tokens=3, extra_body={"ignore_eos": True})
        self.assertEqual((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 3))
        newer = self.chat(max_tokens=openai.omit if hasattr(openai, "omit") else openai.NOT_GIVEN, max_completion_tokens=2)
        self.assertLessEqual(newer.usage.completion_tokens, 2)

    def test_choices(self):
        answer = self.chat(n=3, temperature=1, seed=11)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        self.assertGreater(len({choice.message.content for choice in answer.choices}), 1)

    def test_seed(self):
        def draw(seed):
            return self.chat(temperature=1, seed=seed).choices[0].message.content

        self.assertEqual(draw(1), draw(1))
        self.assertGreater(len({draw(seed) for seed in range(4)}), 1)

    def test_stop(self):
        whole = self.text().choices[0].text
        stop = whole[5:8]
        for stops in (stop, ["\u2603", stop]):
            choice = self.text(stop=stops).choices[0]
            self.assertEqual((choice.text, choice.finish_reason), (whole[: whole.index(stop)], "stop"))
        streamed = "".join(chunk.choices[0].text for chunk in self.text(stop=stop, stream=True))
        self.assertEqual(streamed, whole[: whole.index(stop)])

    def test_logit_bias(self):
        first = self.text(max_tokens=1, extra_body={"return_token_ids": True}).choices[0].token_ids[0]
        other = self.text(max_tokens=1, logit_bias={str(first): -100}, extra_body={"return_token_ids": True})
        self.assertNotEqual(other.choices[0].token_ids[0], first)

    def test_penalties_are_taken(self):
        self.assertTrue(self.chat(presence_penalty=1.5, frequency_penalty=1.5).choices[0].message.content)

    def test_nucleus(self):
        likeliest = self.chat(temperature=0).choices[0].message.content
        if likeliest != self.chat(temperature=0).choices[0].message.content:
            self.fail("greedy answers differ")
        self.assertTrue(self.chat(temperature=1, top_p=0.5, extra_body={"top_k": 5}, seed=1).choices[0].message.content)

    # Log-probabilities

    def test_chat_logprobs(self):
        answer = self.chat(logprobs=True, top_logprobs=3, extra_body={"ignore_eos": True})
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), answer.usage.completion_tokens)
        for entry in content:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            tops = [top.logprob for top in entry.top_logprobs]
            self.assertEqual(tops, sorted(tops, reverse=True))
            self.assertEqual(entry.top_logprobs[0].token, entry.token, "a greedy draw is the likeliest")
        self.assertIsNone(self.chat().choices[0].logprobs)

    def test_completion_logprobs(self):
        choice = self.text(logprobs=2).choices[0]
        logprobs = choice.logprobs
        lengths = {len(logprobs.tokens), len(logprobs.token_logprobs), len(logprobs.top_logprobs), len(logprobs.text_offset)}
        self.assertEqual(len(lengths), 1)
        self.assertEqual(logprobs.text_offset[0], 0)
        self.assertEqual(logprobs.text_offset, sorted(logprobs.text_offset))

    # Streams

    def test_chat_stream(self):
        whole = self.chat()
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        *parts, last = chunks
        text = "".join(chunk.choices[0].delta.content or "" for chunk in parts)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(parts[-1].choices[0].finish_reason, whole.choices[0].finish_reason)
        # How much of it was known or guessed is another matter each time.
        counts = [(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) for usage in (last.usage, whole.usage)]
        self.assertEqual((last.choices, counts[0]), ([], counts[1]))
        self.assertEqual({chunk.id for chunk in chunks}, {chunks[0].id})

    def test_completion_stream(self):
        whole = self.text().choices[0].text
        self.assertEqual("".join(chunk.choices[0].text for chunk in self.text(stream=True)), whole)

    def test_stream_helper(self):
        # The helper takes an answer that ends at its limit for a fault: this one ends at a stop string.
        whole = self.chat().choices[0].message.content
        wish = {"model": self.model, "messages": QUESTION, "max_tokens": 24, "temperature": 0, "stop": whole[5:8]}
        with self.client.chat.completions.stream(**wish) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.content, whole[: whole.index(whole[5:8])])

    def test_leaving_a_stream(self):
        for _ in range(CAPACITY or 4):
            stream = self.chat(stream=True, max_tokens=100, extra_body={"ignore_eos": True})
            next(iter(stream))
            stream.close()
        self.assertTrue(self.chat(max_tokens=1).choices)

    def test_at_once(self):
        questions = ["ROMEO:", "JULIET:", "KING:", "First Citizen:"][: CAPACITY or 4]
        alone = [self.text(prompt=question).choices[0].text for question in questions]

        async def ask_all():
            async with openai.AsyncOpenAI(**SETTINGS) as client:
                wishes = [
                    client.completions.create(model=self.model, prompt=question, max_tokens=24, temperature=0)
                    for question in questions
                ]
                return [answer.choices[0].text for answer in await asyncio.gather(*wishes)]

        self.assertEqual(asyncio.run(ask_all()), alone)

    # Errors

    def assert_refused(self, kind, call, code=None, param=None):
        with self.assertRaises(kind) as caught:
            call()
        error = caught.exception
        if code:
            self.assertEqual(error.code, code)
        if param:
            self.assertEqual(error.param, param)
        self.assertTrue(error.body["message"])
        return error

    def test_unknown_model(self):
        self.assert_refused(openai.NotFoundError, lambda: self.chat(model="nobody"), "model_not_found", "model")
        self.assert_refused(openai.NotFoundError, lambda: self.client.models.retrieve("nobody"), "model_not_found")

    def test_unknown_path(self):
        call = lambda: self.client.moderations.create(model=self.model, input="x")
        self.assert_refused(openai.NotFoundError, call, "unknown_url")

    def test_bad_values(self):
        for param, fields in {
            "temperature": {"temperature": 9},
            "top_p": {"top_p": 2},
            "n": {"n": 0},
            "stop": {"stop": ["a"] * 500},
            "max_tokens": {"max_tokens": -2},
            "messages[0].role": {"messages": [{"role": "king", "content": "x"}]},
            "tool_choice": {"tool_choice": "required"},
            "response_format": {"response_format": {"type": "xml"}},
        }.items():
            with self.subTest(param):
                self.assert_refused(openai.BadRequestError, lambda: self.chat(**fields), param=param)

    def test_bad_value_in_a_stream(self):
        self.assert_refused(openai.BadRequestError, lambda: self.chat(stream=True, temperature=9), param="temperature")

    def test_context(self):
        long = [{"role": "user", "content": "word " * 5000}]
        error = self.assert_refused(
            openai.BadRequestError, lambda: self.chat(messages=long), "context_length_exceeded", "messages"
        )
        self.assertRegex(error.body["message"], r"maximum context length is \d+ tokens")

    def test_what_is_let_through(self):
        self.assertTrue(self.chat(extra_body={"no_such_thing": 1}).choices)
        self.assertEqual(self.chat(max_tokens=10**9, stop=["zounds"] * 14).choices[0].message.role, "assistant")

    # Tools: the model was trained on none, so that it is told to call one and has its say about the rest

    TOOL = {"type": "function", "function": {"name": "speak", "parameters": {"type": "object", "properties": {}}}}

    def test_tools(self):
        answer = self.chat(tools=[self.TOOL], tool_choice="auto").choices[0]
        self.assertIn(answer.finish_reason, ("stop", "length", "tool_calls"))
        messages = [
            *QUESTION,
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "speak", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "spoken"},
        ]
        self.assertTrue(self.chat(messages=messages, tools=[self.TOOL]).choices)
        stream = self.chat(tools=[self.TOOL], tool_choice={"type": "function", "function": {"name": "speak"}}, stream=True)
        self.assertTrue(any(chunk.choices and chunk.choices[0].finish_reason for chunk in stream))

    # Responses

    def test_responses(self):
        wish = {"model": self.model, "input": "ROMEO:", "max_output_tokens": 24, "temperature": 0}
        response = self.client.responses.create(**wish)
        self.assertEqual(response.object, "response")
        self.assertTrue(response.output_text)
        self.assertEqual(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens)
        events = list(self.client.responses.create(**wish, stream=True))
        self.assertEqual(events[0].type, "response.created")
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual(text, response.output_text)
        self.assertEqual(events[-1].response.output_text, text)
        # The helper takes an answer that ends at its limit for a fault: this one ends at a stop string.
        with self.client.responses.stream(**wish, extra_body={"stop": text[5:8]}) as stream:
            self.assertTrue(text.startswith(stream.get_final_response().output_text))
        self.assertTrue(self.client.responses.create(**wish, tools=[{"type": "function", "strict": True} | self.TOOL["function"]]))
        call = lambda: self.client.responses.create(**wish, previous_response_id="resp_1")
        self.assert_refused(openai.BadRequestError, call, param="previous_response_id")

    def test_key(self):
        if not KEY:
            self.skipTest("LIME_API_KEY is not set: the server asks for no key")
        stranger = openai.OpenAI(**SETTINGS | {"api_key": "wrong"})
        call = lambda: stranger.chat.completions.create(model=self.model, messages=QUESTION)
        self.assert_refused(openai.AuthenticationError, call, "invalid_api_key")

    def test_full_queue(self):
        if not CAPACITY:
            self.skipTest("LIME_CAPACITY is not set: how much fills the server is not known")
        long = {"stream": True, "max_tokens": 120, "extra_body": {"ignore_eos": True}}
        streams = [self.chat(**long) for _ in range(CAPACITY)]
        try:
            error = self.assert_refused(openai.RateLimitError, lambda: self.chat(), "queue_full")
            self.assertGreater(int(error.response.headers["retry-after"]), 0)
        finally:
            for stream in streams:
                stream.close()


if __name__ == "__main__":
    if not BASE_URL:
        sys.exit("LIME_BASE_URL is not set: name the server, such as http://127.0.0.1:8000/v1")
    unittest.main(verbosity=2)
