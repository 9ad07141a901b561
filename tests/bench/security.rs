//! What mutual TLS costs on the loopback: connections, round trips, activations of a large prefill chunk, and the time per
//! token of the bundled model, whose layers are so small that the ring is most of it.

use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use lime_plan::{Dtype, ServingLimits};
use lime_ring::{Peer, RingDriver, Transport, connect, probe};
use lime_tests::{
    certificates::Authority,
    fixtures,
    ring::{Sequence, Workers, card, drive, even_plan, lone_worker},
};
use lime_worker::WorkerHandle;

use crate::report::{Samples, figure, ratio};

/// A row of 2 KiB, as decode sends one, and 128 rows of 16 KiB.
const SIZES: [(&str, usize); 2] = [("round trip of 2 KiB", 2 << 10), ("activation of 2 MiB", 2 << 20)];
const PROBES: usize = 60;
const CONNECTIONS: usize = 20;
const TOKENS: usize = 64;

/// Measures and prints.
pub(crate) fn measure(rounds: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let folder = Authority::new()?.worker()?.folder()?;
        let secured = Transport::open(Some(folder.path()))?;
        let mut sides = [Side::start(Transport::Plaintext).await?, Side::start(secured).await?];
        let mut times: [[Samples; 4]; 2] = Default::default();
        for _ in 0..rounds {
            for (side, times) in sides.iter_mut().zip(&mut times) {
                times[0].push(side.connecting().await?);
                for ((_, bytes), times) in SIZES.iter().zip(&mut times[1..]) {
                    times.push(side.round_trip(*bytes).await?);
                }
                times[3].push(side.token().await?);
            }
        }
        println!("mutual TLS against plain text on the loopback");
        let [plain, secured] = &times;
        let what = ["connection", SIZES[0].0, SIZES[1].0, "time per token, bundled model, 3 workers x 2 segments"];
        for ((what, plain), secured) in what.iter().zip(plain).zip(secured) {
            figure(&format!("{what}: plain text"), plain, "us");
            figure(&format!("{what}: mutual TLS"), secured, "us");
            ratio(&format!("{what}: ratio"), &secured.over(plain), "-");
        }
        Ok(())
    })
}

/// A worker to probe and a ring to drive, by one transport.
struct Side {
    transport: Transport,
    peer: Peer,
    driver: RingDriver,
    _probed: WorkerHandle,
    _ring: Workers,
}

impl Side {
    async fn start(transport: Transport) -> Result<Self> {
        let (probed, peer) = lone_worker(&transport, &fixtures::bard()).await?;
        let serving = ServingLimits { max_context_tokens: 128, max_concurrent_requests: 1, prefill_chunk_tokens: 16 };
        let plan = even_plan(&card(&fixtures::bard())?, 3, 2, serving, Dtype::Bf16)?;
        let mut ring = Workers::start_over(&transport, &fixtures::bard(), 3).await?;
        let driver = ring.configure(&plan).await?;
        Ok(Self { transport, peer, driver, _probed: probed, _ring: ring })
    }

    /// Median microseconds of a connection, handshake and all.
    async fn connecting(&self) -> Result<f64> {
        let mut taken = Samples::default();
        for _ in 0..CONNECTIONS {
            let begin = Instant::now();
            connect(&self.transport, &self.peer.uri).await?;
            taken.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        Ok(taken.median())
    }

    /// Median microseconds until `bytes` are there and an empty answer is back.
    async fn round_trip(&self, bytes: usize) -> Result<f64> {
        let payload = Bytes::from(vec![7; bytes]);
        let probed = probe(&self.transport, &self.peer, payload, 0, PROBES).await?;
        let mut taken = Samples::default();
        // The first ones open windows.
        probed.iter().skip(PROBES / 6).for_each(|time| taken.push(time.as_secs_f64() * 1e6));
        Ok(taken.median())
    }

    /// Microseconds for each token of one sequence, its prefill of one chunk included.
    async fn token(&mut self) -> Result<f64> {
        let sequence = Sequence { prompt: (2..18).collect(), draws: TOKENS, temperature: 0.0, seed: 0 };
        let begin = Instant::now();
        let outcome = drive(&mut self.driver, &[sequence], 16).await?;
        let drawn = outcome.first().context("an outcome")?.tokens.len();
        Ok(begin.elapsed().as_secs_f64() * 1e6 / drawn as f64)
    }
}
