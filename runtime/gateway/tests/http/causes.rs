//! What `/ready` says to machines of a ring that trying again does not bring back.

use lime_gateway::{RingCause, WeightsFault};
use serde_json::{Value, json};

use crate::{babbling, client::get, eventually, ready};

#[tokio::test]
async fn readiness_names_the_cause_until_the_ring_serves() {
    let (served, addr) = babbling().await;
    let version = get(addr, "/ready").await.json()["version"].clone();
    assert_eq!(version["wire"], lime_ring::WIRE);
    assert!(version["build"].as_str().is_some_and(|build| !build.is_empty()), "{version}");
    let link = RingCause::Link { from: "a".into(), to: "b".into() };
    let other = RingCause::Version { device: "b".into() };
    let full = RingCause::Weights { device: "b".into(), fault: WeightsFault::DiskFull };
    let table = [
        (Some(link), json!({"kind": "link", "from": "a", "to": "b"})),
        (Some(other), json!({"kind": "version", "device": "b"})),
        (Some(full), json!({"kind": "weights", "device": "b", "what": "diskFull"})),
        (None, Value::Null),
    ];
    for (cause, told) in table {
        served.ring.with(|state| (state.up, state.cause) = (false, cause));
        eventually("told", || async {
            let said = get(addr, "/ready").await.json();
            said["status"] == "recovering" && said["reason"] == "nobody answers" && said["cause"] == told
        })
        .await;
        served.ring.with(|state| state.up = true);
        ready(addr).await;
        assert!(get(addr, "/ready").await.json()["cause"].is_null(), "a ring that serves has no cause");
    }
}
