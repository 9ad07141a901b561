//! The second turn of a chat of 2,000 tokens: its first token behind what the ring kept of the first turn, against all of it computed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lime_plan::{Dtype, KV_PAGE_TOKENS, ServingLimits};
use lime_ring::{
    RingDriver,
    proto::{KeepPages, Pass, Rows, Sampling},
};
use lime_tests::ring::{card, even_plan, topology};

use crate::{
    Bench,
    processes::WorkerProcess,
    report::{Samples, figure, ratio},
};

/// Tokens of both turns, and of what the second adds to prompt and answer of the first.
const CHAT: u32 = 2000;
const NEW: u32 = 60;
const CHUNK: u32 = 128;

/// Measures and prints.
pub(crate) fn measure(bench: &Bench, lime: &Path) -> Result<()> {
    let card = card(&bench.folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    println!("the second turn of a chat of {CHAT} tokens, {NEW} of them new, {} threads", bench.threads);
    for devices in [1, 2] {
        let start = |index| WorkerProcess::start(lime, &format!("device-{index}"), &bench.folder, bench.threads);
        let workers: Vec<WorkerProcess> = (0..devices).map(start).collect::<Result<_>>()?;
        let serving =
            ServingLimits { max_context_tokens: 2048, max_concurrent_requests: 2, prefill_chunk_tokens: CHUNK };
        let plan = even_plan(&card, devices, 1, serving, Dtype::Bf16.kv_entries())?;
        let uris: Vec<String> = workers.iter().map(|worker| worker.uri.clone()).collect();
        let (mut cold, mut behind) = (Samples::default(), Samples::default());
        runtime.block_on(async {
            let topology = topology(&plan, &uris)?;
            let mut ring = RingDriver::configure(&topology, 1, Duration::from_secs(120), |_, _| {}).await?;
            for round in 0..bench.rounds as u64 {
                let (whole, expected) = turn(&mut ring, 0, CHAT, &[]).await?;
                // What a gateway keeps of the first turn.
                let pages: Vec<u64> =
                    (0..u64::from((CHAT - NEW) / KV_PAGE_TOKENS)).map(|page| round << 32 | page).collect();
                let keep = vec![KeepPages { slot: 0, first: 0, pages: pages.clone() }];
                ring.send(Pass { keep, release: vec![0], ..Pass::default() }).await?;
                ring.next().await?;
                let (short, found) = turn(&mut ring, 1, CHAT, &pages).await?;
                ensure!(found == expected, "another token: {found} instead of {expected}");
                ring.send(Pass { forget: pages, release: vec![1], ..Pass::default() }).await?;
                ring.next().await?;
                cold.push(whole.as_secs_f64() * 1e3);
                behind.push(short.as_secs_f64() * 1e3);
            }
            anyhow::Ok(())
        })?;
        figure(&format!("{devices} workers: all of it computed, first token after"), &cold, "ms");
        figure(&format!("{devices} workers: behind the first turn, first token after"), &behind, "ms");
        ratio(&format!("{devices} workers: behind the first turn / all computed"), &behind.over(&cold), "<= 0.10");
    }
    Ok(())
}

/// Has a prompt computed, behind kept pages, several chunks on their way; how long its first token takes, and which it is.
async fn turn(ring: &mut RingDriver, slot: u32, end: u32, pages: &[u64]) -> Result<(Duration, u32)> {
    let begin = Instant::now();
    let mut start = pages.len() as u32 * KV_PAGE_TOKENS;
    let (mut prefix, mut sent) = (pages.to_vec(), 0);
    while start < end {
        let count = CHUNK.min(end - start);
        let sample = (start + count == end).then(Sampling::default);
        let rows = Rows { slot, start, count, sample, prefix: std::mem::take(&mut prefix), ..Rows::default() };
        let tokens = (start..start + count).map(|at| 3 + at * 131 % 1000).collect();
        ring.send(Pass { rows: vec![rows], tokens, ..Pass::default() }).await?;
        (start, sent) = (start + count, sent + 1);
    }
    let mut token = None;
    for _ in 0..sent {
        let result = ring.next().await?;
        ensure!(result.failure.is_empty(), "{}", result.failure);
        token = result.tokens.first().map(|token| token.token);
    }
    Ok((begin.elapsed(), token.context("no token")?))
}
