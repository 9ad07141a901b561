"""Clients of other makers against a server that calls f(x=1) where it may call tools, and says so where it may not.

See run.sh for what it is told by the environment. A client that is not installed is skipped by its name.
"""

import importlib.util
import json
import os
import unittest

BASE = os.environ["LIME_BASE_URL"]
MODEL = os.environ["LIME_MODEL"]
KEY = os.environ.get("LIME_API_KEY", "none")
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
SAID = '{"name": "f", "arguments": {"x": 1}}'


def needs(module):
    found = importlib.util.find_spec(module) is not None
    return unittest.skipUnless(found, f"{module} is not installed")


@needs("anthropic")
class Anthropic(unittest.TestCase):
    def setUp(self):
        import anthropic

        self.client = anthropic.Anthropic(base_url=BASE.removesuffix("/v1"), api_key=KEY, max_retries=0)
        self.wish = {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": "Call f."}]}
        self.tools = [{"name": "f", "description": "does it", "input_schema": PARAMETERS}]

    def test_message(self):
        message = self.client.messages.create(**self.wish)
        self.assertEqual((message.content[0].text, message.stop_reason), (SAID, "end_turn"))

    def test_tools(self):
        message = self.client.messages.create(**self.wish, tools=self.tools)
        self.assertEqual((message.content[0].name, message.content[0].input), ("f", {"x": 1}))
        self.assertEqual(message.stop_reason, "tool_use")
        answer = {"type": "tool_result", "tool_use_id": message.content[0].id, "content": "done"}
        turns = [*self.wish["messages"], {"role": "assistant", "content": message.content}, {"role": "user", "content": [answer]}]
        self.assertTrue(self.client.messages.create(**self.wish | {"messages": turns}, tools=self.tools).content)

    def test_stream(self):
        with self.client.messages.stream(**self.wish) as stream:
            text = "".join(stream.text_stream)
            self.assertEqual((text, stream.get_final_message().content[0].text), (SAID, SAID))
        with self.client.messages.stream(**self.wish, tools=self.tools) as stream:
            self.assertEqual(stream.get_final_message().content[0].input, {"x": 1})

    def test_count(self):
        counted = self.client.messages.count_tokens(model=MODEL, messages=self.wish["messages"]).input_tokens
        self.assertEqual(counted, self.client.messages.create(**self.wish).usage.input_tokens)

    def test_error(self):
        import anthropic

        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(**self.wish | {"model": "nobody"})


@needs("langchain_openai")
class LangChain(unittest.TestCase):
    def chat(self, **fields):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(base_url=BASE, api_key=KEY, model=MODEL, max_retries=0, **fields)

    def test_chat_and_stream(self):
        self.assertEqual(self.chat().invoke("Call f.").content, SAID)
        self.assertEqual("".join(chunk.content for chunk in self.chat().stream("Call f.")), SAID)

    def test_tools(self):
        tool = {"type": "function", "function": {"name": "f", "description": "does it", "parameters": PARAMETERS}}
        for choice in ["auto", "f"]:
            called = self.chat().bind_tools([tool], tool_choice=choice).invoke("Call f.").tool_calls[0]
            self.assertEqual((called["name"], called["args"]), ("f", {"x": 1}))

    def test_responses(self):
        message = self.chat(use_responses_api=True).invoke("Call f.")
        self.assertEqual(message.content[0]["text"], SAID)


@needs("instructor")
class Instructor(unittest.TestCase):
    def test_an_object_by_a_call(self):
        import instructor
        import openai
        from pydantic import BaseModel

        class f(BaseModel):
            x: int

        client = instructor.from_openai(openai.OpenAI(base_url=BASE, api_key=KEY), mode=instructor.Mode.TOOLS)
        made = client.chat.completions.create(
            model=MODEL, response_model=f, max_retries=0, messages=[{"role": "user", "content": "Call f."}]
        )
        self.assertEqual(made.x, 1)


@needs("litellm")
class LiteLlm(unittest.TestCase):
    def test_chat_and_tools(self):
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        wish = {
            "model": f"openai/{MODEL}",
            "api_base": BASE,
            "api_key": KEY,
            "messages": [{"role": "user", "content": "Call f."}],
        }
        self.assertEqual(litellm.completion(**wish).choices[0].message.content, SAID)
        tool = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}
        called = litellm.completion(**wish, tools=[tool]).choices[0].message.tool_calls[0].function
        self.assertEqual((called.name, json.loads(called.arguments)), ("f", {"x": 1}))


if __name__ == "__main__":
    unittest.main(verbosity=2)
