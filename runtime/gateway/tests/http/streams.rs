//! Answers as they come.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    CHAT, TEXT, babbling,
    client::{post, post_open},
    eventually, figure, reciting,
};

fn joined(events: &[Value], index: u64) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    choices.filter(|choice| choice["index"] == index).filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn chunks_have_the_form_of_the_api() {
    let (_served, addr) = reciting("What a piece of work — 😀!").await;
    let body = json!({
        "model": "bard", "messages": [{"role": "user", "content": "?"}], "stream": true,
        "stream_options": {"include_usage": true},
    });
    let mut stream = post_open(addr, CHAT, &body).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let events = stream.events().await;
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": "", "refusal": null}));
    assert_eq!(joined(&events, 0), "What a piece of work — 😀!");
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"]));
    let (usage, chunks) = events.split_last().unwrap();
    assert!(chunks.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    let (end, others) = chunks.split_last().unwrap();
    assert_eq!((&end["choices"][0]["delta"], &end["choices"][0]["finish_reason"]), (&json!({}), &json!("stop")));
    assert!(others.iter().all(|event| event["choices"][0]["finish_reason"].is_null()));
    assert_eq!(usage["choices"], json!([]));
    let whole =
        post(addr, CHAT, &json!({"model": "bard", "messages": [{"role": "user", "content": "?"}]})).await.json();
    assert_eq!(usage["usage"], whole["usage"]);
}

#[tokio::test]
async fn usage_comes_only_where_it_is_asked_for() {
    let (_served, addr) = babbling().await;
    let body = json!({"model": "bard", "prompt": "x", "stream": true, "max_tokens": 3});
    let events = post_open(addr, TEXT, &body).await.events().await;
    assert!(events.iter().all(|event| event.get("usage").is_none() && event["object"] == "text_completion"));
}

#[tokio::test]
async fn a_stop_string_is_never_shown_in_part() {
    let (_served, addr) = reciting("Out, out, brief candle! Life's but a walking shadow").await;
    let body = json!({"model": "bard", "prompt": "x", "stream": true, "stop": ["candle! Life"], "max_tokens": 100});
    let events = post_open(addr, TEXT, &body).await.events().await;
    let text: String = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, "Out, out, brief ");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_stream_says_what_a_whole_answer_says() {
    let (_served, addr) = babbling().await;
    let ask = |stream: bool| {
        json!({"model": "bard", "messages": [{"role": "user", "content": "?"}], "max_tokens": 30, "seed": 3, "n": 2,
               "logprobs": true, "stream": stream})
    };
    let whole = post(addr, CHAT, &ask(false)).await.json();
    let events = post_open(addr, CHAT, &ask(true)).await.events().await;
    for index in 0..2_usize {
        assert_eq!(joined(&events, index as u64), whole["choices"][index]["message"]["content"].as_str().unwrap());
        let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
        let own = choices.filter(|choice| choice["index"] == index);
        let reports: Vec<Value> =
            own.filter_map(|choice| choice["logprobs"]["content"].as_array()).flatten().cloned().collect();
        assert_eq!(json!(reports), whole["choices"][index]["logprobs"]["content"]);
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let (served, addr) = babbling().await;
    served.ring.with(|state| state.pass_time = Duration::from_millis(20));
    let body = json!({"model": "bard", "prompt": "x", "stream": true, "max_tokens": 200});
    let mut stream = post_open(addr, TEXT, &body).await;
    stream.event().await.unwrap();
    assert_eq!(figure(addr, "lime_active_sequences").await, 1.0);
    drop(stream);
    eventually("free", || async { figure(addr, "lime_active_sequences").await == 0.0 }).await;
    let passes = served.ring.with(|state| state.passes.len());
    assert!(passes < 100, "{passes} passes for a client that left");
    // The next pass tells the workers.
    post(addr, TEXT, &json!({"model": "bard", "prompt": ["x", "y"], "max_tokens": 1})).await;
    // Without a stream it is the same.
    let addr2 = addr;
    let waiting =
        tokio::spawn(
            async move { post(addr2, TEXT, &json!({"model": "bard", "prompt": "x", "max_tokens": 200})).await },
        );
    eventually("busy", || async { figure(addr, "lime_active_sequences").await == 1.0 }).await;
    waiting.abort();
    eventually("free again", || async { figure(addr, "lime_active_sequences").await == 0.0 }).await;
}

#[tokio::test]
async fn a_stopping_gateway_ends_streams_with_an_error() {
    let (served, addr) = babbling().await;
    served.ring.with(|state| state.pass_time = Duration::from_millis(30));
    let body = json!({"model": "bard", "prompt": "x", "stream": true, "max_tokens": 200});
    let mut stream = post_open(addr, TEXT, &body).await;
    stream.event().await.unwrap();
    let stopping = tokio::spawn(served.handle.stop());
    sleep(Duration::from_millis(50)).await;
    let refused = post(addr, TEXT, &json!({"model": "bard", "prompt": "x"})).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (503, &json!("server_shutdown")));
    let mut last = String::new();
    while let Some(event) = stream.event().await {
        last = event;
    }
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["error"]["code"], "server_shutdown");
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stopping_gateway_lets_short_answers_end() {
    let (served, addr) = babbling().await;
    served.ring.with(|state| state.pass_time = Duration::from_millis(10));
    let body = json!({"model": "bard", "prompt": "x", "stream": true, "max_tokens": 8});
    let mut stream = post_open(addr, TEXT, &body).await;
    let stopping = tokio::spawn(served.handle.stop());
    let events = stream.events().await;
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    drop(stream);
    stopping.await.unwrap();
}
