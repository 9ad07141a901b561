// The clients that npm has, against a server that calls f(x=1) where it may call tools, and says so where it may not.
// See run.sh for what it is told by the environment.

import assert from "node:assert/strict";
import test from "node:test";

const base = process.env.LIME_BASE_URL;
const model = process.env.LIME_MODEL;
const key = process.env.LIME_API_KEY ?? "none";
const parameters = { type: "object", properties: { x: { type: "integer" } }, required: ["x"] };
const said = '{"name": "f", "arguments": {"x": 1}}';
const messages = [{ role: "user", content: "Call f." }];

test("openai: chat, stream, tools", async () => {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL: base, apiKey: key, maxRetries: 0 });
  const tools = [{ type: "function", function: { name: "f", parameters } }];
  const answer = await client.chat.completions.create({ model, messages });
  assert.equal(answer.choices[0].message.content, said);
  const called = await client.chat.completions.create({ model, messages, tools });
  assert.deepEqual(JSON.parse(called.choices[0].message.tool_calls[0].function.arguments), { x: 1 });
  const stream = client.chat.completions.stream({ model, messages, tools });
  const whole = await stream.finalChatCompletion();
  assert.equal(whole.choices[0].message.tool_calls[0].function.arguments, '{"x": 1}');
  assert.equal(whole.choices[0].finish_reason, "tool_calls");
});

test("openai: responses", async () => {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL: base, apiKey: key, maxRetries: 0 });
  const response = await client.responses.create({ model, input: "Call f." });
  assert.equal(response.output_text, said);
  const stream = client.responses.stream({ model, input: "Call f.", tools: [{ type: "function", name: "f", parameters, strict: true }] });
  const whole = await stream.finalResponse();
  assert.equal(whole.output[0].name, "f");
});

test("ai: openai-compatible and openai (responses), text, stream and tools", async () => {
  const { generateText, streamText, tool, jsonSchema } = await import("ai");
  const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
  const { createOpenAI } = await import("@ai-sdk/openai");
  const providers = [
    createOpenAICompatible({ name: "lime", baseURL: base, apiKey: key })(model),
    createOpenAI({ baseURL: base, apiKey: key })(model),
  ];
  for (const provider of providers) {
    const wish = { model: provider, prompt: "Call f.", maxRetries: 0 };
    assert.equal((await generateText(wish)).text, said);
    let text = "";
    for await (const part of streamText(wish).textStream) text += part;
    assert.equal(text, said);
    const tools = { f: tool({ description: "does it", inputSchema: jsonSchema(parameters) }) };
    const called = await generateText({ ...wish, tools });
    assert.deepEqual(called.toolCalls.map((call) => [call.toolName, call.input]), [["f", { x: 1 }]]);
    const streamed = streamText({ ...wish, tools });
    assert.deepEqual((await streamed.toolCalls).map((call) => call.input), [{ x: 1 }]);
    assert.equal(await streamed.finishReason, "tool-calls");
  }
});

test("anthropic: message, stream, tools", async () => {
  const { default: Anthropic } = await import("@anthropic-ai/sdk");
  const client = new Anthropic({ baseURL: base.replace(/\/v1$/, ""), apiKey: key, maxRetries: 0 });
  const wish = { model, max_tokens: 200, messages };
  assert.equal((await client.messages.create(wish)).content[0].text, said);
  const tools = [{ name: "f", input_schema: parameters }];
  const whole = await client.messages.stream({ ...wish, tools }).finalMessage();
  assert.deepEqual([whole.content[0].input, whole.stop_reason], [{ x: 1 }, "tool_use"]);
});
