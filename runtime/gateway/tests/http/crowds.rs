//! More clients than the queue holds: each is told when to come again, and is served then.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::time::sleep;

use crate::{
    TEXT,
    client::{Answer, post},
    fake::{Setup, babble},
    start,
};

/// As the official clients do: two more tries, and the server's word for the time between where it is within a minute.
async fn patient(addr: SocketAddr) -> (u16, Vec<f64>) {
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 10});
    let mut waits = Vec::new();
    loop {
        let answer = post(addr, TEXT, &body).await;
        if answer.status != 429 || waits.len() == 2 {
            return (answer.status.as_u16(), waits);
        }
        let wait = told(&answer);
        assert!((0.0..=60.0).contains(&wait), "{wait}");
        waits.push(wait);
        sleep(Duration::from_secs_f64(wait)).await;
    }
}

fn told(answer: &Answer) -> f64 {
    let number = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
    let whole = number("retry-after").unwrap();
    assert_eq!(whole, whole.trunc());
    number("retry-after-ms").map_or(whole, |millis| {
        assert!(millis / 1000.0 <= whole);
        millis / 1000.0
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_at_once_are_all_served() {
    let (served, addr) = start(Setup { slots: 4, queue: 16, ..Setup::default() }, babble((300..900).collect())).await;
    // Ten tokens of 10 ms for four at a time: some forty answers a second.
    served.ring.with(|state| state.pass_time = Duration::from_millis(10));
    let clients: Vec<_> = (0..200).map(|_| tokio::spawn(patient(addr))).collect();
    let (mut answered, mut longest) = (0, 0.0_f64);
    for client in clients {
        let (status, waits) = client.await.unwrap();
        answered += usize::from(status == 200);
        longest = longest.max(waits.iter().sum());
    }
    assert_eq!(answered, 200, "{longest} s waited at most");
}
