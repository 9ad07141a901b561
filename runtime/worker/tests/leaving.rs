//! Whose ring it is, and when a worker that is told to stop may.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Ring, card, generate, plan};
use lime_ring::{Demands, DriverError, RingDriver, Transport, drain, status, stay};
use lime_worker::fake::FakeLoader;
use tokio::time::{sleep, timeout};

const PROMPT: [u32; 3] = [3, 1, 4];

async fn named(ring: &Ring, epoch: u64, name: &str) -> RingDriver {
    let demands = Demands { gateway: Some(name.into()), ..Demands::default() };
    RingDriver::configure_with(&ring.topology, epoch, &demands, PATIENCE, |_, _| {}).await.unwrap()
}

/// Who has the ring, as each worker says, and whether it is there.
async fn holders(ring: &Ring) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for peer in &ring.topology.peers {
        let reply = status(&Transport::Plaintext, peer).await.unwrap();
        found.push((reply.holder, reply.holder_away_millis == 0));
    }
    found
}

#[tokio::test]
async fn a_ring_is_its_gateways_until_that_lets_go_or_is_gone() {
    let plan = plan(card(12, 8, 97), 2, 1, 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let free = [(String::new(), true), (String::new(), true)];
    assert_eq!(holders(&ring).await, free);
    let nameless = ring.configure(1).await;
    assert_eq!(holders(&ring).await, free, "who gives no name has nothing");
    drop(nameless);

    let held = named(&ring, 2, "one").await;
    let both = [("one".to_owned(), true), ("one".to_owned(), true)];
    assert_eq!(holders(&ring).await, both);
    for peer in &ring.topology.peers {
        drain(&Transport::Plaintext, peer, Some(1)).await.unwrap();
    }
    assert_eq!(holders(&ring).await, both, "that was said of another epoch");
    drop(held);
    let gone = async {
        while holders(&ring).await.iter().any(|(_, there)| *there) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    assert!(holders(&ring).await.iter().all(|(name, _)| name == "one"), "it may come back");

    let _again = named(&ring, 3, "two").await;
    for peer in &ring.topology.peers {
        drain(&Transport::Plaintext, peer, Some(3)).await.unwrap();
    }
    assert_eq!(holders(&ring).await, free);
    ring.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_waits_for_a_gateway_that_leaves_too() {
    let plan = plan(card(12, 8, 97), 2, 1, 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let (worker, peer) = (&ring.workers[0], &ring.topology.peers[0]);
    let soon = Duration::from_millis(400);
    timeout(soon, worker.unneeded(PATIENCE)).await.expect("without a ring nobody needs it");
    let mut driver = named(&ring, 1, "one").await;
    timeout(soon, worker.unneeded(PATIENCE)).await.expect("nor while nobody asks for anything");

    generate(&mut driver, 0, &PROMPT, 3, 5).await;
    let begun = Instant::now();
    timeout(PATIENCE, worker.unneeded(PATIENCE)).await.expect("when passes come no more");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    assert!(matches!(stay(&Transport::Plaintext, peer, 7).await, Err(DriverError::Epoch { current: 1, .. })));
    stay(&Transport::Plaintext, peer, 1).await.unwrap();
    let begun = Instant::now();
    worker.unneeded(Duration::from_millis(700)).await;
    assert!(begun.elapsed() >= Duration::from_millis(700), "as long as it may, with passes or without");
    let waiting = worker.unneeded(PATIENCE);
    let let_go = async {
        generate(&mut driver, 1, &PROMPT, 3, 5).await;
        drain(&Transport::Plaintext, peer, Some(1)).await.unwrap();
    };
    let both = async { tokio::join!(waiting, let_go) };
    timeout(PATIENCE, both).await.expect("when the gateway lets go");
    ring.stop().await;
}
