//! The second turn of a chat of 2,000 tokens: its first token behind what the ring kept of the first turn, against all of it computed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lime_plan::{DevicePlan, Dtype, KV_PAGE_TOKENS, Plan, ServingLimits};
use lime_ring::{
    RingDriver, RingTopology,
    proto::{KeepPages, Pass, RestoredPage, Rows, Sampling},
};
use lime_tests::ring::{card, even_plan, topology};

use crate::{
    Bench,
    processes::{WorkerOptions, WorkerProcess},
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
                let keep = vec![KeepPages { pages: pages.clone(), ..KeepPages::default() }];
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
        drop(workers);
        let restored = runtime.block_on(restarted(bench, lime, &plan))?;
        figure(&format!("{devices} workers: from disks after a restart, first token after"), &restored, "ms");
        ratio(&format!("{devices} workers: from disks / all computed"), &restored.over(&cold), "<= 0.25");
    }
    Ok(())
}

/// The first turn is computed, all workers are restarted, and the second begins behind what their disks have, reads included. Milliseconds.
async fn restarted(bench: &Bench, lime: &Path, plan: &Plan) -> Result<Samples> {
    let store = tempfile::tempdir_in(bench.folder.parent().context("the model is in no folder")?)?;
    let options = WorkerOptions { store: Some(store.path()), pages: Some("4Gi"), ..WorkerOptions::default() };
    let start =
        |device: &DevicePlan| WorkerProcess::start_with(lime, &device.name, &bench.folder, bench.threads, &options);
    let workers = || plan.devices.iter().map(start).collect::<Result<Vec<WorkerProcess>>>();
    let pages: Vec<u64> = (0..u64::from((CHAT - NEW) / KV_PAGE_TOKENS)).collect();
    // Names stand for tokens, of which there is one text here.
    let name = |page: &u64| page.to_le_bytes().repeat(4);
    let (mut samples, mut expected) = (Samples::default(), None);
    for round in 0..=bench.rounds {
        let workers = workers()?;
        let uris: Vec<String> = workers.iter().map(|worker| worker.uri.clone()).collect();
        let topology = topology(plan, &uris)?;
        let mut ring = RingDriver::configure(&topology, 1, Duration::from_secs(120), |_, _| {}).await?;
        if round == 0 {
            expected = Some(turn(&mut ring, 0, CHAT, &[]).await?.1);
            let keep =
                KeepPages { pages: pages.clone(), names: pages.iter().map(name).collect(), ..KeepPages::default() };
            ring.send(Pass { keep: vec![keep], ..Pass::default() }).await?;
            ring.next().await?;
            // Written while nobody asks.
            while disk_pages(&topology).await? < pages.len() as u64 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            continue;
        }
        let begin = Instant::now();
        for pages in pages.chunks(16) {
            let restore = pages.iter().map(|page| RestoredPage { page: *page, name: name(page) }).collect();
            ring.send(Pass { restore, ..Pass::default() }).await?;
        }
        for _ in pages.chunks(16) {
            let missing = ring.next().await?.forgotten;
            ensure!(missing.is_empty(), "pages {missing:?} did not come back");
        }
        let (_, found) = turn(&mut ring, 1, CHAT, &pages).await?;
        samples.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(Some(found) == expected, "another token: {found} instead of {expected:?}");
    }
    Ok(samples)
}

/// Pages on the disk of the device that has the fewest.
async fn disk_pages(topology: &RingTopology) -> Result<u64> {
    let mut least = u64::MAX;
    for peer in &topology.peers {
        least = least.min(lime_ring::status(&topology.transport, peer).await?.page_disk.unwrap_or_default().pages);
    }
    Ok(least)
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
