//! A peer whose host is gone without a word: no socket closes, only the pings stay unanswered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use common::{PATIENCE, Ring, card, generate, plan};
use lime_ring::{DriverError, FaultKind, Transport, status};
use lime_worker::fake::FakeLoader;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// Passes bytes on to `to` until told to freeze; then it keeps every connection open and silent.
async fn cable(to: SocketAddr, frozen: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(to).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_in, far_out, frozen.clone()));
            tokio::spawn(carry(far_in, near_out, frozen.clone()));
        }
    });
    addr
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    frozen: CancellationToken,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        tokio::select! {
            biased;
            () = frozen.cancelled() => std::future::pending().await,
            read = from.read(&mut bytes) => match read {
                Ok(count) if count > 0 => {
                    if to.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

#[tokio::test]
async fn a_silent_peer_is_found_in_seconds() {
    let plan = plan(card(6, 8, 97), 3, 1, 2);
    let mut ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let frozen = CancellationToken::new();
    // Everybody reaches the middle worker over the cable.
    let middle = cable(ring.workers[1].addr(), frozen.clone()).await;
    ring.topology.peers[1].uri = format!("http://{middle}");
    // And the last one too: the middle one cannot say anything to anybody.
    let last = cable(ring.workers[2].addr(), frozen.clone()).await;
    ring.topology.peers[2].uri = format!("http://{last}");

    let mut driver = ring.configure(1).await;
    generate(&mut driver, 0, &[1, 2, 3], 3, 3).await;
    frozen.cancel();
    let begin = Instant::now();
    let error = tokio::time::timeout(PATIENCE, driver.next()).await.unwrap().unwrap_err();
    let found = begin.elapsed();
    assert!(found < Duration::from_secs(10), "{found:?}");
    assert!(matches!(&error, DriverError::Fault(fault) if fault.kind == FaultKind::Lost), "{error}");
    // The first worker has noticed by itself that its successor is silent.
    while status(&Transport::Plaintext, &ring.topology.peers[0]).await.unwrap().phase != "failed" {
        assert!(begin.elapsed() < Duration::from_secs(12), "the first worker never noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let first = status(&Transport::Plaintext, &ring.topology.peers[0]).await.unwrap();
    assert!(first.failure.contains("\"b\""), "{}", first.failure);
    ring.stop().await;
}
