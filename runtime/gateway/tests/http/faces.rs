//! The other interfaces: one request in several forms.

use lime_text::Tokenizer;
use serde_json::{Value, json};

use crate::{
    babbling,
    client::{Open, post, post_open, send},
    fake::{Setup, babble, bard},
    reciting, reciting_by, start,
};

const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const CALLING: &str = "Ay.<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>";
const TEMPLATE: &str = "{% for tool in tools %}<tool_call>{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}<think></think>";

/// Every event with its name, to the end.
async fn named_events(mut open: Open) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while let Some((name, data)) = open.named_event().await {
        let data: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(data["type"], name.as_str());
        events.push((name, data));
    }
    events
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_response_is_a_list_of_items() {
    let (_served, addr) = reciting("Good morrow.").await;
    let body = json!({"model": "bard", "input": "Hark", "instructions": "Be brief", "max_output_tokens": 99, "metadata": {"a": "b"}});
    let answer = post(addr, RESPONSES, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    assert_eq!(
        (&answer["object"], &answer["status"], &answer["metadata"]),
        (&json!("response"), &json!("completed"), &json!({"a": "b"}))
    );
    assert_eq!(answer["output"][0]["content"][0]["text"], "Good morrow.");
    assert_eq!((&answer["output"][0]["type"], &answer["instructions"]), (&json!("message"), &json!("Be brief")));
    let usage = &answer["usage"];
    assert_eq!(
        usage["total_tokens"],
        usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap()
    );
    let cut = post(addr, RESPONSES, &json!({"model": "bard", "input": "Hark", "max_output_tokens": 1})).await.json();
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    let refused =
        post(addr, RESPONSES, &json!({"model": "bard", "input": [{"role": "king", "content": "x"}]})).await.json();
    assert_eq!(refused["error"]["param"], "input[0].role");
}

#[tokio::test]
async fn a_response_streams_its_items() {
    let (_folder, _served, addr) = reciting_by(TEMPLATE, &format!("<think>Hm.</think>{CALLING}")).await;
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true});
    let body = json!({"model": "bard", "input": "Hark", "stream": true, "tools": [tool]});
    let events = named_events(post_open(addr, RESPONSES, &body).await).await;
    let mut told = names(&events);
    told.dedup();
    assert_eq!(
        told,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let numbers: Vec<u64> = events.iter().map(|(_, event)| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let last = &events.last().unwrap().1["response"];
    let output: Vec<&Value> = last["output"].as_array().unwrap().iter().collect();
    assert_eq!((&output[0]["type"], &output[1]["content"][0]["text"]), (&json!("reasoning"), &json!("Ay.")));
    assert_eq!((&output[2]["name"], &output[2]["arguments"]), (&json!("f"), &json!("{\"x\": 1}")));
    // What is streamed is what is there at the end.
    let done: Vec<&Value> = events
        .iter()
        .filter(|(name, _)| name == "response.output_item.done")
        .map(|(_, event)| &event["item"])
        .collect();
    assert_eq!(done, output);
}

#[tokio::test]
async fn a_message_has_blocks() {
    let (_folder, _served, addr) = reciting_by(TEMPLATE, CALLING).await;
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let body =
        json!({"model": "bard", "max_tokens": 99, "messages": [{"role": "user", "content": "Hark"}], "tools": tools});
    let answer = post(addr, MESSAGES, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    assert_eq!((&answer["type"], &answer["stop_reason"]), (&json!("message"), &json!("tool_use")));
    assert_eq!(answer["content"][0], json!({"type": "text", "text": "Ay."}));
    assert_eq!((&answer["content"][1]["name"], &answer["content"][1]["input"]), (&json!("f"), &json!({"x": 1})));
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = named_events(post_open(addr, MESSAGES, &streamed).await).await;
    let mut told = names(&events);
    told.dedup();
    assert_eq!(
        told,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    let delta = &events[events.len() - 2].1;
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]),
        (
            &json!("tool_use"),
            &json!({
                "input_tokens": answer["usage"]["input_tokens"],
                "cache_read_input_tokens": 0,
                "output_tokens": answer["usage"]["output_tokens"],
            })
        )
    );
    let count = post(addr, "/v1/messages/count_tokens", &body).await.json();
    assert_eq!(count["input_tokens"], answer["usage"]["input_tokens"]);
    let stopped = json!({"model": "bard", "max_tokens": 99, "messages": [{"role": "user", "content": "Hark"}], "stop_sequences": ["y."]});
    let stopped = post(addr, MESSAGES, &stopped).await.json();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"], &stopped["content"][0]["text"]),
        (&json!("stop_sequence"), &json!("y."), &json!("A"))
    );
}

#[tokio::test]
async fn messages_have_errors_and_keys_of_their_own() {
    let (_served, addr) = start(Setup { keys: vec!["secret".into()], ..Setup::default() }, babble(vec![300])).await;
    let body = json!({"model": "bard", "max_tokens": 1, "messages": [{"role": "user", "content": "Hark"}]});
    let json = ("content-type", "application/json");
    let refused = send(addr, "POST", MESSAGES, &[json], body.to_string()).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["type"]), (401, &json!("authentication_error")));
    assert_eq!(refused.json()["type"], "error");
    let key = ("x-api-key", "secret");
    assert_eq!(send(addr, "POST", MESSAGES, &[json, key], body.to_string()).await.status, 200);
    let unknown = send(addr, "POST", MESSAGES, &[json, key], r#"{"model": "hamlet"}"#).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["type"]), (404, &json!("not_found_error")));
    let wrong = send(addr, "POST", MESSAGES, &[json, key], r#"{"model": "bard", "messages": 3}"#).await;
    assert_eq!((wrong.status.as_u16(), &wrong.json()["error"]["type"]), (400, &json!("invalid_request_error")));
}

#[tokio::test]
async fn texts_become_tokens_and_tokens_texts() {
    let (_served, addr) = babbling().await;
    let tokenizer = Tokenizer::open(bard()).unwrap();
    let (whole, bare) = (tokenizer.encode("To be", true).unwrap(), tokenizer.encode("To be", false).unwrap());
    let answer = post(addr, "/tokenize", &json!({"model": "bard", "prompt": "To be"})).await.json();
    assert_eq!(
        (&answer["tokens"], &answer["count"], &answer["max_model_len"]),
        (&json!(whole), &json!(whole.len()), &json!(256))
    );
    assert_eq!(post(addr, "/tokenize", &json!({"content": "To be"})).await.json()["tokens"], json!(bare));
    let chat = json!({"messages": [{"role": "user", "content": "To be"}], "return_token_strs": true});
    let chat = post(addr, "/v1/tokenize", &chat).await.json();
    assert_eq!((&chat["tokens"], chat["token_strs"].as_array().unwrap().len()), (&json!(whole), whole.len()));
    let text = post(addr, "/detokenize", &json!({"tokens": bare})).await.json();
    assert_eq!((&text["prompt"], &text["content"]), (&json!("To be"), &json!("To be")));
    assert_eq!(post(addr, "/detokenize", &json!({"tokens": ["x"]})).await.json()["error"]["param"], "tokens");
    assert_eq!(post(addr, "/tokenize", &json!({"model": "hamlet", "prompt": ""})).await.status, 404);
    let template =
        post(addr, "/apply-template", &json!({"messages": [{"role": "user", "content": "To be"}]})).await.json();
    assert_eq!(template["prompt"], "To be");
}
