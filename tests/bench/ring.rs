//! Rings of two and four worker processes on the loopback against one worker process, all weights in memory.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use lime_plan::{Dtype, ModelCard, ServingLimits};
use lime_ring::{
    RingDriver,
    proto::{Rows, Sampling},
};
use lime_tests::ring::{card, even_plan, topology};

use crate::{
    Bench,
    processes::WorkerProcess,
    report::{Samples, figure, ratio},
};

/// Counts of workers and segments that are compared; the first is the yardstick.
const RINGS: [(usize, u32); 5] = [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)];

/// Measures and prints.
pub(crate) fn measure(bench: &Bench, lime: &Path) -> Result<()> {
    let card = card(&bench.folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    println!("rings of worker processes on the loopback, {} threads each", bench.threads);
    let mut rings = Vec::new();
    for (workers, segments) in RINGS {
        rings.push(runtime.block_on(Ring::start(bench, lime, &card, workers, segments))?);
    }
    let mut times = vec![Samples::default(); rings.len()];
    for _ in 0..bench.rounds {
        for (ring, times) in rings.iter_mut().zip(&mut times) {
            times.push(runtime.block_on(ring.milliseconds_per_token(bench.tokens))?);
        }
    }
    for ((workers, segments), times) in RINGS.iter().zip(&times) {
        figure(&format!("{workers} workers, {segments} segments: time per token"), times, "ms");
    }
    for ((workers, segments), ring) in RINGS.iter().zip(&times).skip(1) {
        let what = format!("{workers} workers, {segments} segments: time / one process");
        ratio(&what, &ring.over(&times[0]), "<= 1.10");
    }
    Ok(())
}

struct Ring {
    driver: RingDriver,
    _workers: Vec<WorkerProcess>,
}

impl Ring {
    async fn start(bench: &Bench, lime: &Path, card: &ModelCard, count: usize, segments: u32) -> Result<Self> {
        let start = |index| WorkerProcess::start(lime, &format!("device-{index}"), &bench.folder, bench.threads);
        let workers: Vec<WorkerProcess> = (0..count).map(start).collect::<Result<_>>()?;
        let serving = ServingLimits { max_context_tokens: 512, max_concurrent_requests: 1, prefill_chunk_tokens: 16 };
        let plan = even_plan(card, count, segments, serving, Dtype::Bf16)?;
        let uris: Vec<String> = workers.iter().map(|worker| worker.uri.clone()).collect();
        let topology = topology(&plan, &uris)?;
        let driver = RingDriver::configure(&topology, 1, Duration::from_secs(120), |_, _| {}).await?;
        Ok(Self { driver, _workers: workers })
    }

    async fn milliseconds_per_token(&mut self, tokens: usize) -> Result<f64> {
        let mut token = self.pass(0, (1..=16).collect()).await?;
        let begin = Instant::now();
        for index in 0..tokens {
            token = self.pass(16 + index as u32, vec![token]).await?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e3 / tokens as f64)
    }

    async fn pass(&mut self, start: u32, tokens: Vec<u32>) -> Result<u32> {
        let rows =
            Rows { slot: 0, start, count: tokens.len() as u32, sample: Some(Sampling::default()), ..Rows::default() };
        self.driver.submit(vec![rows], tokens, Vec::new()).await?;
        let result = self.driver.next().await?;
        match result.tokens.first() {
            Some(token) => Ok(token.token),
            None => bail!("a pass without a token: {}", result.failure),
        }
    }
}
