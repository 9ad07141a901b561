//! Rings that die under their answers.

use std::time::Duration;

use lime_gateway::Event;
use lime_ring::Peer;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    TEXT, babbling,
    client::{get, post, post_open},
    eventually, figure,
};

fn ask(prompt: &str, seed: u64, stream: bool) -> Value {
    json!({"model": "bard", "prompt": prompt, "max_tokens": 60, "seed": seed, "temperature": 0.8, "stream": stream,
           "presence_penalty": 0.5})
}

fn text_of(events: &[Value]) -> String {
    events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_goes_on_where_its_ring_died() {
    let (mut served, addr) = babbling().await;
    let undisturbed = post(addr, TEXT, &ask("To be, or not to be", 5, false)).await.json();
    let undisturbed = undisturbed["choices"][0]["text"].as_str().unwrap();
    for death in [0, 1, 2, 7, 30] {
        served.ring.with(|state| state.dies_after = Some(death));
        let mut stream = post_open(addr, TEXT, &ask("To be, or not to be", 5, true)).await;
        eventually("dead", || async { served.ring.with(|state| !state.up) }).await;
        eventually("noticed", || async { get(addr, "/ready").await.json()["status"] == "recovering" }).await;
        served.ring.with(|state| state.up = true);
        assert_eq!(text_of(&stream.events().await), undisturbed, "killed after {death} results");
    }
    let mut happened = Vec::new();
    while let Ok(event) = served.events.try_recv() {
        happened.push(event);
    }
    assert!(matches!(happened[1], Event::Ready { epoch: 1 }), "{happened:?}");
    let is_lost = |event: &&Event| matches!(event, Event::WorkerLost { device, .. } if device == "device-0");
    assert!(happened.iter().filter(is_lost).count() >= 5, "{happened:?}");
    assert_eq!(happened.iter().filter(|event| matches!(event, Event::Recovered { .. })).count(), 5);
    assert_eq!(figure(addr, "lime_recoveries_total").await, 5.0);
    let epochs = served.ring.with(|state| state.epochs.clone());
    assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "every attempt is a new epoch: {epochs:?}");
}

#[tokio::test]
async fn many_streams_survive_together_and_new_ones_wait() {
    let (served, addr) = babbling().await;
    let prompts = ["a rose", "by any other name", "would smell", "as sweet", "so Romeo would", "were he not"];
    let mut undisturbed = Vec::new();
    for (seed, prompt) in prompts.iter().enumerate() {
        let answer = post(addr, TEXT, &ask(prompt, seed as u64, false)).await.json();
        undisturbed.push(answer["choices"][0]["text"].as_str().unwrap().to_owned());
    }
    let mut answers = Vec::new();
    for (seed, prompt) in prompts.into_iter().enumerate() {
        let body = ask(prompt, seed as u64, true);
        answers.push(tokio::spawn(async move { text_of(&post_open(addr, TEXT, &body).await.events().await) }));
        sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        sleep(Duration::from_millis(15)).await;
        served.ring.with(|state| state.up = false);
        sleep(Duration::from_millis(15)).await;
        served.ring.with(|state| state.up = true);
    }
    for (answer, expected) in answers.into_iter().zip(undisturbed) {
        assert_eq!(answer.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_ring_that_dies_idle_is_back_before_anybody_asks() {
    let (served, addr) = babbling().await;
    served.ring.with(|state| state.up = false);
    eventually("noticed", || async { get(addr, "/ready").await.status == 503 }).await;
    served.ring.with(|state| state.up = true);
    eventually("back", || async { get(addr, "/ready").await.status == 200 }).await;
}

#[tokio::test]
async fn a_request_that_always_fails_is_told_why_and_others_live() {
    let (served, addr) = babbling().await;
    let undisturbed = post(addr, TEXT, &ask("fair is foul", 1, false)).await.json();
    served.ring.with(|state| {
        state.poison = Some(999);
        state.pass_time = Duration::from_millis(3);
    });
    let mut other = post_open(addr, TEXT, &ask("fair is foul", 1, true)).await;
    other.event().await.unwrap();
    let answer = post(addr, TEXT, &json!({"model": "bard", "prompt": [5, 999, 7]})).await;
    assert_eq!(answer.status, 500);
    let error = answer.json()["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("internal_error")));
    assert!(error["message"].as_str().unwrap().contains("the logits are not usable"), "{error}");
    let rest = text_of(&other.events().await);
    assert!(undisturbed["choices"][0]["text"].as_str().unwrap().ends_with(&rest));
    assert_eq!(post(addr, TEXT, &ask("fair is foul", 1, false)).await.status, 200);
}

#[tokio::test]
async fn a_worker_is_awaited_and_followed_to_its_new_address() {
    let (served, addr) = babbling().await;
    let peer = |port: u16| Peer { device: "device-0".into(), uri: format!("http://127.0.0.1:{port}") };
    served.orders.send_modify(|orders| orders.workers.clear());
    served.ring.with(|state| state.up = false);
    eventually("noticed", || async { get(addr, "/ready").await.status == 503 }).await;
    let stream = tokio::spawn(async move { text_of(&post_open(addr, TEXT, &ask("x", 1, true)).await.events().await) });
    sleep(Duration::from_millis(50)).await;
    let attempts = served.ring.with(|state| state.epochs.len());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(served.ring.with(|state| state.epochs.len()), attempts, "nothing is tried without an address");
    served.ring.with(|state| state.up = true);
    served.orders.send_modify(|orders| orders.workers = vec![peer(10)]);
    assert!(!stream.await.unwrap().is_empty());
}
