//! Calls of tools, and thoughts beside answers.

use serde_json::{Value, json};

use crate::{
    CHAT,
    client::{post, post_open},
    reciting, reciting_by,
};

const HERMES: &str = "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}<tool_call>{% endif %}\
                      {% for m in messages %}{{ m.role }}:{{ m.content }}{% for call in m.tool_calls %}{{ call.function.arguments.x }}\
                      {% endfor %}\n{% endfor %}{% if think %}<think>{% endif %}";

fn tool(name: &str) -> Value {
    let parameters = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
    json!({"type": "function", "function": {"name": name, "description": "does it", "parameters": parameters}})
}

fn ask(fields: Value) -> Value {
    let tools = [tool("f"), tool("g")];
    let mut body = json!({"model": "bard", "messages": [{"role": "user", "content": "?"}], "tools": tools});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

const TWO: &str = "Ay.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n<tool_call>\n\
                   {\"name\": \"g\", \"arguments\": {}}\n</tool_call>";

#[tokio::test]
async fn calls_are_told_apart_from_prose_whole_and_streamed() {
    let (_folder, _served, addr) = reciting_by(HERMES, TWO).await;
    let answer = post(addr, CHAT, &ask(json!({}))).await.json();
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &json!("Ay.")));
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    let functions: Vec<&Value> = calls.iter().map(|call| &call["function"]).collect();
    assert_eq!(functions, [&json!({"name": "f", "arguments": "{\"x\": 1}"}), &json!({"name": "g", "arguments": "{}"})]);
    assert_eq!((&calls[0]["type"], calls[0]["id"].as_str().unwrap().len()), (&json!("function"), 9));
    assert_ne!(calls[0]["id"], calls[1]["id"]);

    let events = post_open(addr, CHAT, &ask(json!({"stream": true}))).await.events().await;
    let deltas: Vec<&Value> = events.iter().map(|event| &event["choices"][0]["delta"]).collect();
    let text: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
    let calls: Vec<&Value> = deltas.iter().filter_map(|delta| delta.get("tool_calls")?.get(0)).collect();
    assert_eq!(text, "Ay.");
    let told: Vec<(u64, Option<&str>, &str)> = calls
        .iter()
        .map(|call| {
            (
                call["index"].as_u64().unwrap(),
                call["function"]["name"].as_str(),
                call["function"]["arguments"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [(0, Some("f"), ""), (0, None, "{\"x\": 1}"), (1, Some("g"), ""), (1, None, "{}")]);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    let single = post(addr, CHAT, &ask(json!({"parallel_tool_calls": false}))).await.json();
    assert_eq!(single["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    assert!(
        single["usage"]["completion_tokens"].as_u64() < answer["usage"]["completion_tokens"].as_u64(),
        "the rest is not drawn"
    );
    // Without tools, and with tools that may not be called, a text is a text.
    for free in [json!({"tools": null}), json!({"tool_choice": "none"})] {
        assert_eq!(post(addr, CHAT, &ask(free)).await.json()["choices"][0]["message"]["content"], TWO);
    }
}

#[tokio::test]
async fn who_must_call_begins_with_the_call() {
    let (_folder, _served, addr) = reciting_by(HERMES, " {\"x\": 2}}\n</tool_call>").await;
    let named = ask(json!({"tool_choice": {"type": "function", "function": {"name": "g"}}}));
    let answer = post(addr, CHAT, &named).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({"name": "g", "arguments": "{\"x\": 2}"}));
    let rendered = post(addr, "/apply-template", &named).await.json()["prompt"].as_str().unwrap().to_owned();
    assert!(rendered.ends_with("<tool_call>\n{\"name\": \"g\", \"arguments\":"), "{rendered}");
    let (_folder, _served, addr) = reciting_by(HERMES, " \"f\", \"arguments\": {}}\n</tool_call>").await;
    let answer = post(addr, CHAT, &ask(json!({"tool_choice": "required"}))).await.json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f");
}

#[tokio::test]
async fn what_cannot_be_read_as_a_call_is_content() {
    let text = "<tool_call>\n{\"name\": \"f\", oops}\n</tool_call>";
    let (_folder, _served, addr) = reciting_by(HERMES, text).await;
    let choice = post(addr, CHAT, &ask(json!({}))).await.json()["choices"][0].clone();
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!(text), &json!("stop")));
    assert_eq!(choice["message"].get("tool_calls"), None);
}

#[tokio::test]
async fn what_tools_said_is_part_of_the_conversation() {
    let (_folder, _served, addr) = reciting_by(HERMES, "Done.").await;
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 41}"}});
    let messages = json!([
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "it is 42"}]},
    ]);
    let rendered = post(addr, "/apply-template", &ask(json!({"messages": messages}))).await.json()["prompt"].clone();
    let rendered = rendered.as_str().unwrap();
    assert!(rendered.contains("assistant:41tool:it is 42"), "{rendered}");
    assert!(rendered.contains(r#""name": "f""#) && rendered.contains("does it"), "{rendered}");
    let wrong = json!([{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}]);
    let refused = post(addr, CHAT, &ask(json!({"messages": wrong}))).await.json();
    assert_eq!(refused["error"]["param"], "messages[0].tool_calls[0]");
}

#[tokio::test]
async fn a_model_whose_template_knows_no_tools_is_told_in_words() {
    let (_served, addr) = reciting("{\"name\": \"f\", \"arguments\": {\"x\": 3}}").await;
    let rendered = post(addr, "/apply-template", &ask(json!({}))).await.json()["prompt"].as_str().unwrap().to_owned();
    assert!(rendered.contains("does it") && rendered.ends_with('?'), "{rendered}");
    let short = ask(json!({"tools": [{"type": "function", "function": {"name": "f"}}]}));
    let answer = post(addr, CHAT, &short).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"x\": 3}");
}

#[tokio::test]
async fn thoughts_stand_beside_the_answer() {
    let (_folder, _served, addr) = reciting_by(HERMES, "<think>\nHm.\n</think>\n\nYes.").await;
    let body = json!({"model": "bard", "messages": [{"role": "user", "content": "?"}]});
    let message = post(addr, CHAT, &body).await.json()["choices"][0]["message"].clone();
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!("Hm."), &json!("Yes.")));
    let events = post_open(addr, CHAT, &ask(json!({"stream": true}))).await.events().await;
    let joined = |name: &str| -> String {
        events.iter().filter_map(|event| event["choices"][0]["delta"][name].as_str()).collect()
    };
    assert_eq!((joined("reasoning_content"), joined("content")), ("Hm.".into(), "Yes.".into()));
    // Where the prompt ends in thoughts, the answer begins with them.
    let (_folder, _served, addr) = reciting_by(HERMES, "Hm.</think>Yes.").await;
    let body = json!({"model": "bard", "messages": [{"role": "user", "content": "?"}], "chat_template_kwargs": {"think": true}});
    let message = post(addr, CHAT, &body).await.json()["choices"][0]["message"].clone();
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!("Hm."), &json!("Yes.")));
}

/// Arguments that keep to a tool's schema, in the form of every family, whatever the ring would draw.
#[tokio::test]
async fn who_must_call_keeps_to_the_schema() {
    let mistral = "{% if tools %}[TOOL_CALLS]{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";
    let llama = "{% if tools %}ipython{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";
    let schema = json!({
        "type": "object", "properties": {"x": {"type": "integer", "minimum": 3, "maximum": 12}, "y": {"enum": ["thee", "thou"]}},
        "required": ["x", "y"], "additionalProperties": false,
    });
    let tools = json!([
        {"type": "function", "function": {"name": "f", "parameters": schema}},
        // What cannot be kept to is any object, where nobody asked for more.
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "minProperties": 1, "not": {}}}},
    ]);
    for template in [HERMES, mistral, llama, ""] {
        let folder = crate::templated(template);
        let model = if template.is_empty() { crate::fake::bard() } else { folder.path().to_owned() };
        let setup = crate::fake::Setup { model, context: 512, ..crate::fake::Setup::default() };
        let (_served, addr) = crate::start(setup, crate::fake::babble((300..900).collect())).await;
        for (seed, choice) in [
            (1, json!({"type": "function", "function": {"name": "f"}})),
            (2, json!({"type": "function", "function": {"name": "f"}})),
            (3, json!("required")),
        ] {
            let body = ask(json!({
                "tools": tools, "tool_choice": choice, "temperature": 2, "seed": seed, "max_tokens": 300, "parallel_tool_calls": false,
            }));
            let answer = post(addr, CHAT, &body).await.json();
            if choice == "required" && answer["choices"][0]["finish_reason"] == "length" {
                // Any object may be longer than there is room.
                continue;
            }
            let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
            let arguments = call["arguments"].as_str().unwrap_or_else(|| panic!("{template}: {answer}"));
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            assert!(arguments.is_object(), "{answer}");
            if call["name"] == "f" {
                assert!((3..=12).contains(&arguments["x"].as_i64().unwrap()), "{answer}");
                assert!(arguments["y"] == "thee" || arguments["y"] == "thou", "{answer}");
            }
        }
    }
}

/// A free answer may be prose, and where it calls a strict tool, the arguments keep to the schema.
#[tokio::test]
async fn strict_tools_are_kept_to_where_they_are_called() {
    let strict =
        |schema: Value| json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": schema}}]);
    let schema =
        json!({"type": "object", "properties": {"x": {"const": 7}}, "required": ["x"], "additionalProperties": false});
    let (_folder, _served, addr) = reciting_by(HERMES, "Ay, and no call.").await;
    let prose = post(addr, CHAT, &ask(json!({"tools": strict(schema.clone())}))).await.json();
    assert_eq!(prose["choices"][0]["message"]["content"], "Ay, and no call.");
    let wrong = "Ay. <tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 8}}\n</tool_call>";
    let (_folder, _served, addr) = reciting_by(HERMES, wrong).await;
    let body = ask(json!({"tools": strict(schema.clone()), "parallel_tool_calls": false, "max_tokens": 120}));
    let answer = post(addr, CHAT, &body).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(
        serde_json::from_str::<Value>(call["arguments"].as_str().unwrap()).unwrap(),
        json!({"x": 7}),
        "{answer}"
    );
    let refused = post(addr, CHAT, &ask(json!({"tools": strict(json!({"type": "object", "not": {}}))}))).await;
    assert_eq!(refused.json()["error"]["param"], "tools[0].function.parameters");
    // A form beside tools: the answer is a call, or has it.
    let format = json!({"type": "json_schema", "json_schema": {"schema": {"type": "array", "items": {"const": 1}, "maxItems": 3}}});
    let (_folder, _served, addr) = reciting_by(HERMES, "[1, 1]").await;
    let answer = post(addr, CHAT, &ask(json!({"response_format": format, "max_tokens": 60}))).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "[1, 1]", "{answer}");
}
