//! For as long as one likes: a worker process under a hard memory limit whose KV cache grows and shrinks without end.
//!
//! Every job must come to the tokens and the bits of logits that a ring with ample memory gave, and the process must stay within its
//! limit, page cache counted. It fails at the first that does not.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lime_plan::{Bytes, Dtype, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile, Plan};
use lime_ring::{Peer, RingDriver, Transport, proto::StatusReply};
use lime_tests::{
    memory_limit::MemoryLimit,
    ring::{Outcome, Sequence, Workers, card, drive, even_plan, topology},
    synthetic::{Shape, write_folder},
};

use crate::processes::{WorkerOptions, WorkerProcess};

const SHAPE: Shape = Shape::LLAMA_81M;
const LIMIT: u64 = 150_000_000;
/// What the process takes besides what its plan counts.
const OVERHEAD: Bytes = Bytes::mib(40);
/// Prompt rows that each sequence has in a pass; a pass has as many as all of them.
const CHUNK: usize = 32;
const MINUTE: Duration = Duration::from_secs(60);
const DRAWS: usize = 24;
/// Prompt tokens of the sequences of each job: short ones, long ones, and both at once.
const JOBS: [[usize; 3]; 6] = [[10, 5, 20], [450, 10, 10], [40, 300, 5], [20, 20, 480], [3, 3, 3], [400, 400, 450]];

/// Serves for `time`, and says every minute how it goes.
pub(crate) fn measure(lime: &Path, time: Duration) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    write_folder(&SHAPE, &model)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(serve(lime, dir.path(), &model, time))
}

async fn serve(lime: &Path, dir: &Path, model: &Path, time: Duration) -> Result<()> {
    let (card, store) = (card(model)?, dir.join("store"));
    let plan = planned(&card)?;
    let expected = with_ample_memory(&card, model).await?;
    let limit = MemoryLimit::new(LIMIT).context("control groups cannot be made here")?;
    let options = WorkerOptions { store: Some(&store), memory: Some(&limit), ..WorkerOptions::default() };
    let worker = WorkerProcess::start_with(lime, &plan.devices[0].name, model, 1, &options)?;
    let peer = Peer { device: plan.devices[0].name.clone(), uri: worker.uri.clone() };
    let topology = topology(&plan, std::slice::from_ref(&worker.uri))?;
    let mut ring = RingDriver::configure(&topology, 1, Duration::from_secs(60), |_, _| {}).await?;
    let (begun, mut said, mut jobs) = (Instant::now(), Instant::now(), 0_usize);
    while begun.elapsed() < time {
        let job = jobs % JOBS.len();
        let outcome = drive(&mut ring, &sequences(job), CHUNK).await.with_context(|| format!("job {jobs}"))?;
        ensure!(outcome == expected[job], "job {jobs} came to other tokens or logits than with ample memory");
        jobs += 1;
        if said.elapsed() >= MINUTE || begun.elapsed() >= time {
            said = Instant::now();
            let status = lime_ring::status(&Transport::Plaintext, &peer).await?;
            report(begun.elapsed(), jobs, limit.peak()?, &status);
            ensure!(limit.peak()? <= LIMIT, "more memory than the limit");
        }
    }
    Ok(())
}

fn report(time: Duration, jobs: usize, peak: u64, status: &StatusReply) {
    println!(
        "{:>4} min: {jobs} jobs, all with the same bits; steps taken {}, undone {}; {:.1} GB streamed; peak {:.1} MB, {:.3} of the limit",
        time.as_secs() / 60,
        status.memory().steps_taken,
        status.memory().steps_undone,
        status.stream().read_bytes as f64 / 1e9,
        peak as f64 / 1e6,
        peak as f64 / LIMIT as f64,
    );
}

fn sequences(job: usize) -> Vec<Sequence> {
    let of = |(slot, prompt): (usize, usize)| Sequence {
        prompt: (0..prompt).map(|at| 2 + ((at * 131 + job * 97 + slot * 31) % 1990) as u32).collect(),
        draws: DRAWS,
        temperature: 0.7,
        seed: (job * 3 + slot) as u64,
    };
    JOBS[job].into_iter().enumerate().map(of).collect()
}

/// What each job comes to in a ring that keeps everything.
async fn with_ample_memory(card: &ModelCard, model: &Path) -> Result<Vec<Vec<Outcome>>> {
    let plan = even_plan(card, 1, 1, goal(card).serving, Dtype::F32)?;
    let mut workers = Workers::start_with_store(model, None, 1, 1).await?;
    let mut ring = workers.configure(&plan).await?;
    let mut expected = Vec::new();
    for job in 0..JOBS.len() {
        expected.push(drive(&mut ring, &sequences(job), CHUNK).await?);
    }
    workers.stop().await?;
    Ok(expected)
}

fn goal(card: &ModelCard) -> Goal {
    let mut goal = Goal::sporadic(card, 512);
    goal.serving.prefill_chunk_tokens = (3 * CHUNK) as u32;
    goal.serving.max_concurrent_requests = 3;
    goal.typical_context = Some(128);
    goal.kv = Dtype::F32;
    goal
}

/// What the planner makes of one device with a disk.
fn planned(card: &ModelCard) -> Result<Plan> {
    let node = NodeProfile {
        name: "device-0".into(),
        memory: Bytes(LIMIT),
        overhead: OVERHEAD,
        memory_bandwidth: 20_000_000_000,
        compact_bandwidth: None,
        throughput: 100_000_000_000,
        disk_bandwidth: Some(1_500_000_000),
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    };
    let link = Link { bandwidth: 1_000_000_000, latency: Nanos::ZERO };
    lime_planner::plan(card, &Fleet::uniform(vec![node], link), &goal(card))
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))
}
