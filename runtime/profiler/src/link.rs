//! The way to another agent: round trips of small messages, and how fast large ones get through.

use std::time::Duration;

use bytes::Bytes;
use lime_ring::{Peer, Transport, probe};
use serde::{Deserialize, Serialize};

use crate::sample::middle;
use crate::{error::ProfileError, listen};

/// A link's speed, as the ring's own transport sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkSpeed {
    /// Bits per second, from here to there.
    pub bandwidth_bits: u64,
    /// Half a round trip of a small message.
    pub latency_nanos: u64,
}

const SMALL: usize = 16;
const SMALL_ROUNDS: usize = 31;
const LARGE_ROUNDS: usize = 5;
const FIRST: usize = 256 << 10;
const LARGEST: usize = 16 << 20;
/// A message that takes so long tells the bandwidth well enough.
const TELLING: Duration = Duration::from_millis(60);

/// Measures the link to the agent or worker at `uri`: a few MiB and about a second, more on slow links.
///
/// # Errors
/// When nobody answers there.
pub async fn link(uri: &str) -> Result<LinkSpeed, ProfileError> {
    let peer = Peer { device: uri.to_owned(), uri: uri.to_owned() };
    let ask = async |bytes: usize, rounds: usize| {
        let payload = Bytes::from(vec![0_u8; bytes]);
        let times = probe(&Transport::Plaintext, &peer, payload, 0, rounds + 1).await;
        let times = times.map_err(|source| ProfileError::Peer { uri: uri.to_owned(), source })?;
        // The first opens windows and warms the way.
        let mut seconds: Vec<f64> = times.iter().skip(1).map(Duration::as_secs_f64).collect();
        Ok::<f64, ProfileError>(middle(&mut seconds))
    };
    let round_trip = ask(SMALL, SMALL_ROUNDS).await?;
    let mut bytes = FIRST;
    let mut took = ask(bytes, 1).await?;
    while took < TELLING.as_secs_f64() && bytes < LARGEST {
        bytes *= 2;
        took = ask(bytes, 1).await?;
    }
    if took < 4.0 * TELLING.as_secs_f64() {
        took = ask(bytes, LARGE_ROUNDS).await?;
    }
    let through = (took - round_trip).max(took / 100.0).max(1e-9);
    Ok(LinkSpeed {
        bandwidth_bits: (bytes as f64 * 8.0 / through) as u64,
        latency_nanos: (round_trip / 2.0 * 1e9) as u64,
    })
}

/// What the ring's transport does between two processes of this machine.
///
/// # Errors
/// When the loopback interface cannot be used.
pub async fn loopback() -> Result<LinkSpeed, ProfileError> {
    let listener = listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let found = link(&format!("http://{}", listener.addr())).await;
    listener.stop().await;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn loopback_is_fast_and_nobody_is_named() {
        let found = loopback().await.expect("loopback");
        assert!(found.bandwidth_bits > 10_000_000 && found.latency_nanos < 1_000_000_000, "{found:?}");
        let nobody = link("http://127.0.0.1:9").await.expect_err("nobody listens there").to_string();
        assert!(nobody.contains("127.0.0.1:9"), "{nobody}");
    }
}
