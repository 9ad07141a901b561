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
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
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


FORM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "arguments": PARAMETERS | {"additionalProperties": False}},
    "required": ["name", "arguments"],
    "additionalProperties": False,
}


def form():
    from pydantic import BaseModel

    class Arguments(BaseModel):
        x: int

    class Form(BaseModel):
        name: str
        arguments: Arguments

    return Form


@needs("openai")
class OpenAi(unittest.TestCase):
    def setUp(self):
        import openai

        self.client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)
        self.messages = [{"role": "user", "content": "Call f."}]

    def test_an_object_by_its_class(self):
        made = self.client.chat.completions.parse(model=MODEL, messages=self.messages, response_format=form())
        self.assertEqual(made.choices[0].message.parsed.arguments.x, 1)
        made = self.client.responses.parse(model=MODEL, input="Call f.", text_format=form())
        self.assertEqual(made.output_parsed.arguments.x, 1)

    def test_a_strict_tool(self):
        import openai
        from pydantic import BaseModel

        class f(BaseModel):
            x: int

        for choice in ["auto", "required"]:
            made = self.client.chat.completions.parse(
                model=MODEL, messages=self.messages, tools=[openai.pydantic_function_tool(f)], tool_choice=choice
            )
            self.assertEqual(made.choices[0].message.tool_calls[0].function.parsed_arguments.x, 1)

    def test_embeddings(self):
        made = self.client.embeddings.create(model=MODEL, input=["Ay.", "Nay."])
        lengths = [sum(number * number for number in one.embedding) for one in made.data]
        self.assertTrue(all(abs(length - 1) < 1e-5 for length in lengths), lengths)


@needs("outlines")
class Outlines(unittest.TestCase):
    def setUp(self):
        import openai

        self.client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)

    def test_an_object(self):
        import outlines

        for model in [outlines.from_openai(self.client, MODEL), outlines.from_vllm(self.client, MODEL)]:
            self.assertEqual(json.loads(model("Call f.", form()))["arguments"]["x"], 1)

    def test_an_expression_and_a_choice(self):
        from typing import Literal

        import outlines
        from outlines.types import Regex

        model = outlines.from_vllm(self.client, MODEL)
        self.assertRegex(model("When?", Regex(r"[0-9]{4}-[0-9]{2}")), r"^[0-9]{4}-[0-9]{2}$")
        self.assertIn(model("Ay or nay?", Literal["ay", "nay"]), ["ay", "nay"])


@needs("guidance")
class Guidance(unittest.TestCase):
    def test_a_grammar(self):
        import guidance
        from guidance.models.experimental import VLLMModel

        model = VLLMModel(MODEL, base_url=BASE, api_key=KEY)
        with guidance.user():
            model += "Call f."
        with guidance.assistant():
            model += guidance.select(["ay", "nay"], name="said")
        self.assertIn(model["said"], ["ay", "nay"])
        with guidance.assistant():
            model += guidance.json(schema=FORM, name="form")
        self.assertEqual(json.loads(model["form"])["arguments"], {"x": 1})


@needs("llama_index.llms.openai_like")
class LlamaIndex(unittest.TestCase):
    def test_chat_stream_and_object(self):
        from llama_index.core.llms import ChatMessage
        from llama_index.llms.openai_like import OpenAILike

        model = OpenAILike(
            model=MODEL, api_base=BASE, api_key=KEY, is_chat_model=True, is_function_calling_model=True, max_retries=0
        )
        messages = [ChatMessage(role="user", content="Call f.")]
        self.assertEqual(model.chat(messages).message.content, SAID)
        self.assertEqual("".join(piece.delta or "" for piece in model.stream_chat(messages)), SAID)


@needs("llm")
class Llm(unittest.TestCase):
    def test_prompt_and_schema(self):
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            settings = {"model_id": "lime", "model_name": MODEL, "api_base": BASE, "supports_schema": True, "api_key_name": "lime"}
            Path(folder, "keys.json").write_text(json.dumps({"lime": KEY}))
            Path(folder, "extra-openai-models.yaml").write_text(json.dumps([settings]))
            os.environ["LLM_USER_PATH"] = folder
            import llm

            model = llm.get_model("lime")
            self.assertEqual(model.prompt("Call f.").text(), SAID)
            self.assertEqual(json.loads(model.prompt("Call f.", schema=FORM).text())["arguments"], {"x": 1})


@needs("lm_eval")
class LmEval(unittest.TestCase):
    def test_loglikelihood(self):
        os.environ["OPENAI_API_KEY"] = KEY
        from lm_eval.api.instance import Instance
        from lm_eval.models.openai_completions import LocalCompletionsAPI

        model = LocalCompletionsAPI(
            base_url=f"{BASE}/completions", model=MODEL, tokenizer_backend="remote", auth_token=KEY, max_length=256
        )
        texts = [("It is the east, and", " Juliet is the sun."), ("Ay", " me!")]
        wishes = [Instance("loglikelihood", {}, text, index) for index, text in enumerate(texts)]
        found = model.loglikelihood(wishes, disable_tqdm=True)
        self.assertTrue(len(found) == 2 and all(likely < 0 for likely, _ in found), found)


if __name__ == "__main__":
    unittest.main(verbosity=2)
