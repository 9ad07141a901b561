//! What is refused, and how.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    CHAT, TEXT, babbling,
    client::{get, post, post_open, send},
    eventually,
    fake::{self, Controls, Setup, babble},
    figure, ready, start,
};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn chat(fields: Value) -> Value {
    let mut body = json!({"model": "bard", "messages": [{"role": "user", "content": "?"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn text(fields: Value) -> Value {
    let mut body = json!({"model": "bard", "prompt": "x"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn every_bad_value_is_named() {
    let (_served, addr) = babbling().await;
    let many: Vec<&str> = vec!["a"; 300];
    let table = [
        (CHAT, json!([]), Value::Null, "invalid_type"),
        (CHAT, json!({}), json!("model"), "missing_required_parameter"),
        (CHAT, json!({"model": 3}), json!("model"), "invalid_type"),
        (CHAT, json!({"model": "bard"}), json!("messages"), "missing_required_parameter"),
        (CHAT, chat(json!({"messages": "hello"})), json!("messages"), "invalid_type"),
        (CHAT, chat(json!({"messages": []})), json!("messages"), "invalid_value"),
        (CHAT, chat(json!({"messages": [1]})), json!("messages[0]"), "invalid_type"),
        (CHAT, chat(json!({"messages": [{"content": "x"}]})), json!("messages[0].role"), "missing_required_parameter"),
        (
            CHAT,
            chat(json!({"messages": [{"role": "king", "content": "x"}]})),
            json!("messages[0].role"),
            "invalid_value",
        ),
        (
            CHAT,
            chat(json!({"messages": [{"role": "user"}]})),
            json!("messages[0].content"),
            "missing_required_parameter",
        ),
        (
            CHAT,
            chat(json!({"messages": [{"role": "user", "content": 1}]})),
            json!("messages[0].content"),
            "invalid_type",
        ),
        (
            CHAT,
            chat(
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            ),
            json!("messages[0].content[0]"),
            "invalid_value",
        ),
        (CHAT, chat(json!({"temperature": 2.5})), json!("temperature"), "invalid_value"),
        (CHAT, chat(json!({"temperature": "hot"})), json!("temperature"), "invalid_type"),
        (CHAT, chat(json!({"top_p": -0.1})), json!("top_p"), "invalid_value"),
        (CHAT, chat(json!({"top_k": -2})), json!("top_k"), "invalid_value"),
        (CHAT, chat(json!({"n": 0})), json!("n"), "invalid_value"),
        (CHAT, chat(json!({"n": 9})), json!("n"), "invalid_value"),
        (CHAT, chat(json!({"n": 1.5})), json!("n"), "invalid_type"),
        (CHAT, chat(json!({"max_tokens": 0})), json!("max_tokens"), "invalid_value"),
        (CHAT, chat(json!({"max_completion_tokens": -2})), json!("max_completion_tokens"), "invalid_value"),
        (CHAT, chat(json!({"stop_token_ids": [5000]})), json!("stop_token_ids"), "invalid_value"),
        (CHAT, chat(json!({"min_p": 1.5})), json!("min_p"), "invalid_value"),
        (CHAT, chat(json!({"repetition_penalty": 0})), json!("repetition_penalty"), "invalid_value"),
        (CHAT, chat(json!({"stop": many})), json!("stop"), "invalid_value"),
        (CHAT, chat(json!({"stop": ""})), json!("stop"), "invalid_value"),
        (CHAT, chat(json!({"stop": [1]})), json!("stop"), "invalid_type"),
        (CHAT, chat(json!({"seed": "x"})), json!("seed"), "invalid_type"),
        (CHAT, chat(json!({"stream": "yes"})), json!("stream"), "invalid_type"),
        (CHAT, chat(json!({"stream_options": {"include_usage": true}})), json!("stream_options"), "invalid_value"),
        (CHAT, chat(json!({"logprobs": 3})), json!("logprobs"), "invalid_type"),
        (CHAT, chat(json!({"top_logprobs": 3})), json!("top_logprobs"), "invalid_value"),
        (CHAT, chat(json!({"logprobs": true, "top_logprobs": 21})), json!("top_logprobs"), "invalid_value"),
        (CHAT, chat(json!({"presence_penalty": 3})), json!("presence_penalty"), "invalid_value"),
        (CHAT, chat(json!({"logit_bias": {"x": 1}})), json!("logit_bias"), "invalid_value"),
        (CHAT, chat(json!({"logit_bias": {"5000": 1}})), json!("logit_bias"), "invalid_value"),
        (CHAT, chat(json!({"logit_bias": {"5": 101}})), json!("logit_bias"), "invalid_value"),
        (CHAT, chat(json!({"response_format": {"type": "xml"}})), json!("response_format"), "unsupported_parameter"),
        (CHAT, chat(json!({"tools": [{"type": "function"}]})), json!("tools[0].name"), "missing_required_parameter"),
        (CHAT, chat(json!({"tools": [{"type": "web_search"}]})), json!("tools[0]"), "unsupported_parameter"),
        (CHAT, chat(json!({"tool_choice": "required"})), json!("tool_choice"), "invalid_value"),
        (CHAT, chat(json!({"functions": [{"name": "f"}]})), json!("functions"), "unsupported_parameter"),
        (TEXT, json!({"model": "bard"}), json!("prompt"), "missing_required_parameter"),
        (TEXT, text(json!({"prompt": []})), json!("prompt"), "invalid_value"),
        (TEXT, text(json!({"prompt": [[]]})), json!("prompt"), "invalid_value"),
        (TEXT, text(json!({"prompt": [1, "x"]})), json!("prompt"), "invalid_type"),
        (TEXT, text(json!({"prompt": [1024]})), json!("prompt"), "invalid_value"),
        (TEXT, text(json!({"prompt": {"a": 1}})), json!("prompt"), "invalid_type"),
        (TEXT, text(json!({"suffix": "end"})), json!("suffix"), "unsupported_parameter"),
        (CHAT, chat(json!({"guided_regex": "("})), json!("guided_regex"), "invalid_grammar"),
        (CHAT, chat(json!({"bad_words": ["fie"]})), json!("bad_words"), "unsupported_parameter"),
        (TEXT, text(json!({"prompt_logprobs": 0})), json!("prompt_logprobs"), "unsupported_parameter"),
        (TEXT, text(json!({"n": 2, "best_of": 1})), json!("best_of"), "invalid_value"),
        (TEXT, text(json!({"best_of": 2, "stream": true})), json!("best_of"), "invalid_value"),
        (TEXT, text(json!({"echo": true, "logprobs": 1, "best_of": 2})), json!("best_of"), "invalid_value"),
        (TEXT, text(json!({"logprobs": true})), json!("logprobs"), "invalid_type"),
        (TEXT, text(json!({"prompt": vec![7; 256]})), json!("prompt"), "context_length_exceeded"),
    ];
    for (path, body, param, code) in table {
        let answer = post(addr, path, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        let error = answer.json()["error"].clone();
        assert_eq!((&error["param"], &error["code"]), (&param, &json!(code)), "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    // What changes nothing is let through.
    let harmless = chat(json!({
        "max_tokens": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "user": "me",
        "store": false, "metadata": {}, "parallel_tool_calls": true, "stop": null, "temperature": null,
    }));
    assert_eq!(post(addr, CHAT, &harmless).await.status, 200);
}

#[tokio::test]
async fn a_token_without_a_row_is_refused_and_ends_no_ring() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        // Not every model has all of them.
        let _ = std::fs::copy(fake::bard().join(file), folder.path().join(file));
    }
    let tokenizer = std::fs::read(fake::bard().join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&tokenizer).unwrap();
    let extra = json!({"id": 1024, "content": "<|extra|>", "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true});
    tokenizer["added_tokens"].as_array_mut().unwrap().push(extra);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let setup = Setup { model: folder.path().into(), ..Setup::default() };
    let (served, addr) = start(setup, babble((300..900).collect())).await;
    let says = "a<|extra|>b";
    for (path, body, param) in [
        (TEXT, text(json!({"prompt": says})), "prompt"),
        (TEXT, text(json!({"prompt": ["x", says], "echo": true})), "prompt"),
        (TEXT, text(json!({"prompt": [1, 1024, 2]})), "prompt"),
        (TEXT, text(json!({"logit_bias": {"1024": 1}})), "logit_bias"),
        (CHAT, chat(json!({"messages": [{"role": "user", "content": says}]})), "messages"),
    ] {
        let answer = post(addr, path, &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), &error["param"]), (400, &json!(param)), "{body}: {}", answer.text);
        assert!(error["message"].as_str().unwrap().contains("1024"), "{error}");
    }
    // In a stop string it is text like any other.
    assert_eq!(post(addr, TEXT, &text(json!({"stop": "<|extra|>", "max_tokens": 2}))).await.status, 200);
    assert_eq!(served.ring.with(|state| state.epochs.len()), 1, "the ring was never lost");
}

#[tokio::test]
async fn a_prompt_over_the_context_is_told_the_numbers() {
    let (_served, addr) = babbling().await;
    let words = "word ".repeat(300);
    let answer = post(addr, CHAT, &chat(json!({"messages": [{"role": "user", "content": words}]}))).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].clone();
    assert_eq!((&error["code"], &error["param"]), (&json!("context_length_exceeded"), &json!("messages")));
    assert!(error["message"].as_str().unwrap().contains("maximum context length is 256 tokens"), "{error}");
    let full = json!({"model": "bard", "prompt": vec![7; 256], "max_tokens": 255});
    let answer = post(addr, TEXT, &full).await;
    assert!(answer.text.contains("255 in the completion"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_no_json_or_too_large_is_refused() {
    let (_served, addr) = start(
        Setup { options: lime_gateway::Options { body_limit: 1000, ..Setup::default().options }, ..Setup::default() },
        babble(vec![300]),
    )
    .await;
    for body in ["", "{", "{\"model\": }", "nonsense", "{\"model\": \"\u{1}\"}"] {
        let answer = send(addr, "POST", CHAT, &JSON, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (400, &json!("invalid_json")), "{body}");
    }
    let deep = "[".repeat(900);
    assert_eq!(send(addr, "POST", CHAT, &JSON, deep).await.status, 400);
    assert_eq!(send(addr, "POST", CHAT, &JSON, vec![0xff; 10]).await.status, 400);
    let answer = send(addr, "POST", CHAT, &JSON, "x".repeat(1001)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (413, &json!("request_too_large")));
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    let (_served, addr) = babbling().await;
    let answer = post(addr, CHAT, &chat(json!({"model": "hamlet"}))).await;
    assert_eq!(answer.status, 404);
    let error = answer.json()["error"].clone();
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    assert!(error["message"].as_str().unwrap().contains("hamlet"));
    assert_eq!(get(addr, "/v1/models/org/hamlet").await.json()["error"]["code"], "model_not_found");
    let answer = get(addr, "/v1/rerank").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (404, &json!("unknown_url")));
    let answer = get(addr, CHAT).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (405, &json!("method_not_supported")));
    assert!(answer.headers.contains_key("allow"));
}

#[tokio::test]
async fn keys_are_asked_for_where_there_are_some() {
    let (_served, addr) = start(Setup { keys: vec!["secret".into()], ..Setup::default() }, babble(vec![300])).await;
    let body = chat(json!({"max_tokens": 1})).to_string();
    for (headers, status) in
        [(vec![], 401), (vec![("authorization", "Bearer wrong")], 401), (vec![("authorization", "Bearer secret")], 200)]
    {
        let headers: Vec<_> = headers.into_iter().chain(JSON).collect();
        let answer = send(addr, "POST", CHAT, &headers, body.clone()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if status == 401 {
            assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
        }
    }
    assert_eq!(get(addr, "/v1/models").await.status, 401);
    for open in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(addr, open).await.status, 200);
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let (served, addr) = start(Setup { slots: 1, queue: 1, ..Setup::default() }, babble(vec![300])).await;
    served.ring.with(|state| state.pass_time = Duration::from_millis(50));
    let long = text(json!({"max_tokens": 200, "stream": true}));
    let first = post_open(addr, TEXT, &long).await;
    let second = post_open(addr, TEXT, &long).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_eq!(figure(addr, "lime_queue_depth").await, 1.0);
    let refused = post(addr, TEXT, &text(json!({}))).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (429, &json!("queue_full")));
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // One that leaves the queue makes room in it.
    drop(second);
    eventually("room", || async { figure(addr, "lime_queue_depth").await == 0.0 }).await;
    drop(first);
    assert_eq!(post(addr, TEXT, &text(json!({"max_tokens": 1}))).await.status, 200);
}

#[tokio::test]
async fn while_loading_there_is_progress_and_no_answer() {
    let ring = Controls::new(babble(vec![300]));
    ring.with(|state| state.up = false);
    let served = fake::serve(Setup::default(), ring).await;
    let addr = served.handle.addr();
    eventually("trouble", || async { get(addr, "/ready").await.text.contains("nobody answers") }).await;
    let answer = post(addr, CHAT, &chat(json!({}))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (503, &json!("model_loading")));
    assert!(answer.headers.contains_key("retry-after"));
    assert!(answer.text.contains("device-0 50 %"), "{}", answer.text);
    let state = get(addr, "/ready").await;
    assert_eq!((state.status.as_u16(), &state.json()["devices"][0]["percent"]), (503, &json!(50)));
    assert_eq!(get(addr, "/health").await.status, 200);
    assert_eq!(get(addr, "/v1/models").await.status, 200);
    served.ring.with(|state| state.up = true);
    ready(addr).await;
    assert_eq!(post(addr, CHAT, &chat(json!({"max_tokens": 1}))).await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let options = lime_gateway::Options {
        header_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(100),
        ..Setup::default().options
    };
    let (_served, addr) = start(Setup { options, ..Setup::default() }, babble(vec![300])).await;
    let mut slow = tokio::net::TcpStream::connect(addr).await.unwrap();
    slow.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    slow.write_all(b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    let mut answer = vec![0; 4096];
    let read = slow.read(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 408"));
    let mut silent = tokio::net::TcpStream::connect(addr).await.unwrap();
    silent.write_all(b"POST /v1/comp").await.unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (events, _heard) = tokio::sync::mpsc::unbounded_channel();
    let serving =
        lime_plan::ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 8 };
    let plan = fake::plan(serving);
    let (_sender, orders) = tokio::sync::watch::channel(lime_gateway::Orders::new(plan, Vec::new()));
    let config = lime_gateway::GatewayConfig {
        listen: taken.local_addr().unwrap(),
        orders,
        transport: lime_ring::Transport::Plaintext,
        model: fake::bard(),
        template_program: None,
        served_name: "bard".into(),
        access: lime_gateway::Access::default(),
        queue_limit: 1,
    };
    let error = lime_gateway::start(config.clone(), lime_gateway::Options::default(), events.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
    let nowhere = lime_gateway::GatewayConfig { model: "/nowhere".into(), ..config };
    let error = lime_gateway::start(nowhere, lime_gateway::Options::default(), events).await.unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}
