//! Requests that cannot be done, weights that are damaged, rings that do not come back: who hears of it, and who does not.

use std::time::Duration;

use lime_gateway::{Event, Options};
use lime_ring::proto::FailureKind;
use serde_json::{Value, json};

use crate::{
    TEXT, babbling,
    client::{get, post, post_open},
    eventually,
    fake::{Served, Setup, babble},
    start,
};

fn ask(prompt: &Value, stream: bool) -> Value {
    json!({"model": "bard", "prompt": prompt, "max_tokens": 60, "seed": 1, "temperature": 0.8, "stream": stream})
}

fn text_of(events: &[Value]) -> String {
    events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect()
}

fn epochs(served: &Served) -> usize {
    served.ring.with(|state| state.epochs.len())
}

/// A gateway whose ring has so long to come back.
async fn impatient(recovery: Duration) -> (Served, std::net::SocketAddr) {
    let options = Options { grace: Duration::from_millis(200), recovery, ..Options::default() };
    start(Setup { options, ..Setup::default() }, babble((300..900).collect())).await
}

#[tokio::test]
async fn what_a_request_asks_for_ends_that_request_and_no_epoch() {
    let (served, addr) = babbling().await;
    let mate = ask(&"fair is foul".into(), false);
    let undisturbed = post(addr, TEXT, &mate).await.json()["choices"][0]["text"].as_str().unwrap().to_owned();
    for at_the_worker in [false, true] {
        served.ring.with(|state| {
            state.pass_time = Duration::from_millis(3);
            (state.poison, state.refused) = if at_the_worker { (Some(999), None) } else { (None, Some(999)) };
            state.poison_kind = FailureKind::Refused;
        });
        let before = epochs(&served);
        let mut other = post_open(addr, TEXT, &ask(&"fair is foul".into(), true)).await;
        let first = other.event().await.unwrap();
        for _ in 0..4 {
            // Long enough for several passes on their way.
            let mut prompt = vec![5; 60];
            prompt[20] = 999;
            let answer = post(addr, TEXT, &ask(&json!(prompt), false)).await;
            assert_eq!(answer.status, 400, "{}", answer.text);
            let error = answer.json()["error"].clone();
            assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("request_refused")));
        }
        let first: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(text_of(&[first]) + &text_of(&other.events().await), undisturbed);
        assert_eq!(epochs(&served), before, "the ring went on");
    }
}

#[tokio::test]
async fn damage_is_mended_before_anybody_tries_again_and_no_request_is_blamed() {
    let (served, addr) = babbling().await;
    let undisturbed = post(addr, TEXT, &ask(&"fair is foul".into(), false)).await.json();
    let mut stream = post_open(addr, TEXT, &ask(&"fair is foul".into(), true)).await;
    let first: Value = serde_json::from_str(&stream.event().await.unwrap()).unwrap();
    // More often than a request may fail.
    served.ring.with(|state| state.damaged = 12);
    let text = text_of(&[first]) + &text_of(&stream.events().await);
    assert_eq!(text, undisturbed["choices"][0]["text"].as_str().unwrap());
    assert_eq!(served.ring.with(|state| (state.damaged, state.compared)), (0, 12));
}

#[tokio::test]
async fn logits_that_are_no_numbers_have_everything_compared_once_and_then_are_the_requests() {
    let (served, addr) = babbling().await;
    served.ring.with(|state| (state.poison, state.poison_kind) = (Some(999), FailureKind::NotFinite));
    for _ in 0..3 {
        let answer = post(addr, TEXT, &ask(&json!([5, 999, 7]), false)).await;
        assert_eq!(answer.status, 500, "{}", answer.text);
        assert!(answer.text.contains("the logits are not usable"), "{}", answer.text);
    }
    assert_eq!(served.ring.with(|state| state.compared), 1, "not for each of them");
}

#[tokio::test]
async fn a_ring_that_does_not_come_back_is_told_of() {
    let (mut served, addr) = impatient(Duration::from_millis(600)).await;
    assert_eq!(get(addr, "/health").await.status, 200);
    let mut stream = post_open(addr, TEXT, &ask(&"a rose".into(), true)).await;
    stream.event().await.unwrap();
    served.ring.with(|state| state.up = false);
    eventually("noticed", || async { get(addr, "/ready").await.json()["status"] == "recovering" }).await;
    assert_eq!(get(addr, "/health").await.status, 200);
    let waiting = tokio::spawn(async move { post(addr, TEXT, &ask(&"as sweet".into(), false)).await });
    let mut last = String::new();
    while let Some(event) = stream.event().await {
        last = event;
    }
    let error = serde_json::from_str::<Value>(&last).unwrap()["error"].clone();
    assert_eq!(error["code"], "ring_unavailable", "{last}");
    let cause = error["message"].as_str().unwrap();
    assert!(cause.contains("killed") || cause.contains("nobody answers"), "{cause}");
    let waited = waiting.await.unwrap();
    assert_eq!((waited.status.as_u16(), &waited.json()["error"]["code"]), (503, &json!("ring_unavailable")));
    let new = post(addr, TEXT, &ask(&"would smell".into(), false)).await;
    assert_eq!((new.status.as_u16(), &new.json()["error"]["code"]), (503, &json!("ring_unavailable")));
    let health = get(addr, "/health").await;
    assert_eq!((health.status.as_u16(), &health.json()["status"]), (503, &json!("unavailable")));
    assert!(health.text.contains("nobody answers"), "{}", health.text);
    assert_eq!(get(addr, "/live").await.status, 200, "to start the gateway anew would help nobody");

    served.ring.with(|state| state.up = true);
    eventually("back", || async { get(addr, "/ready").await.status == 200 }).await;
    assert_eq!(post(addr, TEXT, &ask(&"a rose".into(), false)).await.status, 200);
    assert_eq!(get(addr, "/health").await.status, 200);
    let mut told = 0;
    while let Ok(event) = served.events.try_recv() {
        told += u32::from(matches!(event, Event::Unavailable { .. }));
    }
    assert_eq!(told, 1);
}

#[tokio::test]
async fn passes_that_fail_for_ever_end_in_an_error_too() {
    let (served, addr) = impatient(Duration::from_millis(600)).await;
    // More than can be mended.
    served.ring.with(|state| state.damaged = u32::MAX);
    let answer = post(addr, TEXT, &ask(&"a rose".into(), false)).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.text.contains("a block is damaged"), "{}", answer.text);
    served.ring.with(|state| state.damaged = 0);
    eventually("whole", || async { post(addr, TEXT, &ask(&"a rose".into(), false)).await.status == 200 }).await;
}

#[tokio::test]
async fn a_worker_that_was_brought_to_an_epoch_out_of_all_proportion_is_told_to_come_back() {
    let (served, addr) = babbling().await;
    for hijacked in [1 << 62, u64::MAX, 1000] {
        served.ring.with(|state| (state.hijacked, state.up) = (Some(hijacked), false));
        eventually("noticed", || async { get(addr, "/ready").await.status == 503 }).await;
        served.ring.with(|state| state.up = true);
        eventually("back", || async { get(addr, "/ready").await.status == 200 }).await;
        let epoch = get(addr, "/ready").await.json()["epoch"].as_u64().unwrap();
        assert!(epoch < 2000, "{epoch} after {hijacked}");
    }
    assert_eq!(post(addr, TEXT, &ask(&"a rose".into(), false)).await.status, 200);
}

#[tokio::test]
async fn a_pass_may_take_its_time_and_a_worker_that_is_stuck_is_given_up() {
    let options = Options { quiet: Duration::from_millis(20), ..Options::default() };
    let (served, addr) = start(Setup { options, ..Setup::default() }, babble((300..900).collect())).await;
    let undisturbed = text_of(&post_open(addr, TEXT, &ask(&"a rose".into(), true)).await.events().await);
    let before = epochs(&served);
    served.ring.with(|state| state.pass_time = Duration::from_millis(100));
    let mut stream = post_open(addr, TEXT, &ask(&"a rose".into(), true)).await;
    let first: Value = serde_json::from_str(&stream.event().await.unwrap()).unwrap();
    let second: Value = serde_json::from_str(&stream.event().await.unwrap()).unwrap();
    assert_eq!(epochs(&served), before, "slow is not stuck");
    served.ring.with(|state| (state.pass_time, state.stuck) = (Duration::from_secs(3600), Some("at a pass".into())));
    eventually("given up", || async { epochs(&served) > before }).await;
    served.ring.with(|state| (state.pass_time, state.stuck) = (Duration::ZERO, None));
    assert_eq!(text_of(&[first, second]) + &text_of(&stream.events().await), undisturbed);
}
