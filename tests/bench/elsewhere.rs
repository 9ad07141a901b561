//! A KV cache that has outgrown its device: its pages on another device against blocks that stream, and against ample memory.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use lime_plan::{Dtype, Nanos, Plan, ServingLimits};
use lime_ring::{
    LinkShape, RingDriver,
    proto::{Rows, Sampling},
};
use lime_tests::{
    ring::{Shapes, Workers, card, even_plan, lending},
    synthetic::{Shape, write_folder},
};
use lime_worker::DiskShape;

use crate::report::{Samples, figure, ratio};

/// Half of its weights lie on each of two devices; 24 KiB of KV cache a token there.
const SHAPE: Shape = Shape::LLAMA_81M;
const PROMPT: u32 = 1400;
const CHUNK: u32 = 64;
const TOKENS: u32 = 8;
const DISK: DiskShape = DiskShape { bytes_per_second: 500_000_000 };
/// Of board to board over a switch.
const LINKS: [(&str, u64, u64); 2] =
    [("1 Gbit/s, 0.2 ms", 1_000_000_000, 200), ("10 Gbit/s, 0.1 ms", 10_000_000_000, 100)];

/// Measures and prints.
pub(crate) fn measure(rounds: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    write_folder(&SHAPE, &model)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(compare(dir.path(), &model, rounds))
}

async fn compare(dir: &Path, model: &Path, rounds: usize) -> Result<()> {
    let serving = ServingLimits { max_context_tokens: 2048, max_concurrent_requests: 1, prefill_chunk_tokens: CHUNK };
    let ample = even_plan(&card(model)?, 2, 1, serving, Dtype::F32)?;
    // As dear as they are: the way is not what is measured.
    let handing = lending(ample.clone(), 6, 28, Nanos(1_000_000_000))?;
    let streaming = without_hand_over(handing.clone())?;
    for (name, bandwidth_bits, latency) in LINKS {
        println!("a cache of {PROMPT} tokens on a device with room for 341, disks of 500 MB/s, links of {name}");
        let link = Some(LinkShape { bandwidth_bits, latency: Duration::from_micros(latency) });
        let shapes = Shapes { link, disk: Some(DISK) };
        let mut rings = Vec::new();
        for plan in [&ample, &handing, &streaming] {
            rings.push(Ring::start(dir, model, plan, shapes).await?);
        }
        let [ample, handing, streaming] = rings.as_mut_slice() else { bail!("three rings") };
        let mut times = [Samples::default(), Samples::default(), Samples::default()];
        for _ in 0..rounds {
            for (ring, times) in [&mut *ample, &mut *handing, &mut *streaming].into_iter().zip(&mut times) {
                times.push(ring.milliseconds_per_token().await?);
            }
        }
        for (what, times) in ["ample memory", "pages elsewhere", "blocks streamed"].iter().zip(&times) {
            figure(&format!("{what}: time per token"), times, "ms");
        }
        let prefill = [ample.prefill, handing.prefill, streaming.prefill].map(|time| time.as_secs_f64());
        println!("prompt of {PROMPT}: {:.1} s, {:.1} s, {:.1} s", prefill[0], prefill[1], prefill[2]);
        ratio("pages elsewhere / blocks streamed", &times[1].over(&times[2]), "< 1");
        for ring in rings {
            ring.workers.stop().await?;
        }
    }
    Ok(())
}

/// The plan with blocks alone.
fn without_hand_over(plan: Plan) -> Result<Plan> {
    let mut plan = plan.into_draft();
    let steps = &mut plan.devices[0].steps;
    let over = steps.remove(0);
    for step in steps {
        step.above = step.above.saturating_sub(over.frees);
    }
    Ok(plan.try_into()?)
}

struct Ring {
    workers: Workers,
    driver: RingDriver,
    next: u32,
    token: u32,
    prefill: Duration,
}

impl Ring {
    async fn start(dir: &Path, model: &Path, plan: &Plan, shapes: Shapes) -> Result<Self> {
        let mut workers = Workers::start_shaped(model, &dir.join("store"), 2, shapes).await?;
        let driver = workers.configure(plan).await?;
        let mut this = Self { workers, driver, next: 0, token: 0, prefill: Duration::ZERO };
        let begin = Instant::now();
        let prompt: Vec<u32> = (0..PROMPT).map(|index| 2 + index * 131 % 1900).collect();
        for chunk in prompt.chunks(CHUNK as usize) {
            this.pass(chunk.to_vec()).await?;
        }
        this.prefill = begin.elapsed();
        Ok(this)
    }

    async fn milliseconds_per_token(&mut self) -> Result<f64> {
        let begin = Instant::now();
        for _ in 0..TOKENS {
            self.pass(vec![self.token]).await?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e3 / f64::from(TOKENS))
    }

    async fn pass(&mut self, tokens: Vec<u32>) -> Result<()> {
        let rows = Rows {
            slot: 0,
            start: self.next,
            count: tokens.len() as u32,
            sample: Some(Sampling::default()),
            ..Rows::default()
        };
        self.next += tokens.len() as u32;
        self.driver.submit(vec![rows], tokens, Vec::new()).await?;
        let result = self.driver.next().await?;
        self.token = result.tokens.first().with_context(|| format!("no token: {}", result.failure))?.token;
        Ok(())
    }
}
