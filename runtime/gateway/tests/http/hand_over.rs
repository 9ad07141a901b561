//! One gateway after another: the ring changes hands when the answers of the first have ended.

use std::time::Duration;

use lime_gateway::{Holder, Options};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    TEXT,
    client::{get, post, post_open},
    eventually,
    fake::{self, Controls, Setup, babble},
    ready,
};

fn ask(max_tokens: u32) -> Value {
    json!({"model": "bard", "prompt": "a rose", "max_tokens": max_tokens, "temperature": 0, "stream": true})
}

fn text_of(events: &[Value]) -> String {
    events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("{event}"))).collect()
}

fn named(grace: Duration) -> Setup {
    let options = Options { name: Some("new".into()), grace, ..Options::default() };
    Setup { options, ..Setup::default() }
}

fn held(by: &str) -> Vec<Holder> {
    vec![Holder { gateway: by.into(), away: Duration::ZERO }]
}

#[tokio::test]
async fn one_that_comes_takes_requests_and_answers_them_when_the_ring_is_free() {
    let ring = Controls::new(babble((300..900).collect()));
    ring.with(|state| state.holders = held("old"));
    let served = fake::serve(named(Duration::from_secs(60)), ring).await;
    let addr = served.handle.addr();
    eventually("waiting", || async { get(addr, "/ready").await.json()["status"] == "waiting" }).await;
    let told = get(addr, "/ready").await;
    assert_eq!(told.status, 503);
    assert!(told.json()["reason"].as_str().unwrap().contains("old has the ring"), "{}", told.text);
    let waiting = tokio::spawn(async move { text_of(&post_open(addr, TEXT, &ask(9)).await.events().await) });
    eventually("taken in", || async { get(addr, "/ready").await.json()["requests"] == 1 }).await;
    sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished() && served.ring.with(|state| state.epochs.is_empty()), "the ring is not touched");
    served.ring.with(|state| state.holders.clear());
    assert!(!waiting.await.unwrap().is_empty());
    ready(addr).await;
    served.handle.stop().await;
}

#[tokio::test]
async fn one_that_never_lets_go_is_waited_for_no_longer_than_it_may_take() {
    let ring = Controls::new(babble((300..900).collect()));
    ring.with(|state| state.holders = held("old"));
    tokio::time::pause();
    let served = fake::serve(named(Duration::from_secs(5)), ring.clone()).await;
    let begun = tokio::time::Instant::now();
    while ring.with(|state| state.epochs.is_empty()) {
        sleep(Duration::from_millis(100)).await;
    }
    // Its grace, and fifteen seconds in which its pod may close.
    let waited = begun.elapsed();
    assert!((Duration::from_secs(20)..Duration::from_secs(22)).contains(&waited), "{waited:?}");
    tokio::time::resume();
    served.handle.stop().await;
}

#[tokio::test]
async fn one_that_leaves_ends_its_answers_takes_no_more_and_lets_the_ring_go() {
    let served = fake::serve(named(Duration::from_secs(60)), Controls::new(babble((300..900).collect()))).await;
    let addr = served.handle.addr();
    ready(addr).await;
    let whole = text_of(&post_open(addr, TEXT, &ask(150)).await.events().await);
    served.ring.with(|state| state.pass_time = Duration::from_millis(10));
    let mut stream = post_open(addr, TEXT, &ask(150)).await;
    let first: Value = serde_json::from_str(&stream.event().await.unwrap()).unwrap();
    let ring = served.ring.clone();
    let leaving = tokio::spawn(served.handle.stop());
    eventually("stopping", || async { get(addr, "/ready").await.json()["status"] == "stopping" }).await;
    assert_eq!(get(addr, "/ready").await.json()["requests"], 1);
    let refused = post(addr, TEXT, &ask(1)).await;
    assert!(refused.status == 503 && refused.text.contains("server_shutdown"), "{}", refused.text);
    // Its ring dies under it: it is brought back for the answers that are under way.
    ring.with(|state| state.dies_after = Some(0));
    eventually("dead", || async { ring.with(|state| !state.up) }).await;
    ring.with(|state| state.up = true);
    assert_eq!(format!("{}{}", text_of(&[first]), text_of(&stream.events().await)), whole);
    leaving.await.unwrap();
    let last = ring.with(|state| *state.epochs.last().unwrap());
    assert!(ring.with(|state| state.stays.contains(&last)), "workers are told to stay");
    assert_eq!(ring.with(|state| state.let_go.clone()), [last]);
}
