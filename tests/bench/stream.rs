//! Weights larger than memory: worker processes under hard memory limits that stream what they cannot keep.
//!
//! The yardstick of a token is the larger of two times taken in the same run: computing it with all weights in memory, and
//! reading the streamed bytes from the disk by the same direct reads, in alternation with the passes: a disk that others use
//! too is seldom as fast as a second ago. All workers share one disk unless it is throttled.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lime_model::ModelFolder;
use lime_plan::{
    Block, Bytes, Dtype, Encoding, Fleet, Goal, Link, MemoryModel, ModelCard, Nanos, NodeProfile, PlacedBlock, Plan,
    Residency, ServingLimits,
};
use lime_ring::{
    RingDriver,
    proto::{Rows, Sampling},
};
use lime_store::{EnsureOptions, Source, Store, StoredModel};
use lime_tests::{
    memory_limit::MemoryLimit,
    ring::{even_plan, topology},
};

use crate::{
    Bench,
    disk::Reading,
    machine, memory, peer,
    processes::{WorkerOptions, WorkerProcess},
    quants,
    report::{Samples, figure, ratio},
};

/// What a worker process takes besides what its plan counts.
const OVERHEAD: Bytes = Bytes::mib(64);
const MEGABYTE: u64 = 1_000_000;
/// A round goes on for so long, and for three tokens at least.
const PATIENCE: Duration = Duration::from_secs(3);
/// Rounds of a disk's turn and a ring's turn, where the disk is not throttled.
const TURNS: usize = 5;

/// One device that may use 0.7, 1.2 and 1.8 GB.
pub(crate) fn one(bench: &Bench, lime: &Path, llama: Option<&Path>) -> Result<()> {
    let setting = Setting::new(bench, lime)?;
    for limit in [700, 1200, 1800] {
        let mut speeds = Vec::new();
        for encoding in [Encoding::Raw, Encoding::Compact] {
            let plan = setting.searched(&[limit * MEGABYTE], None, Some(encoding))?;
            let run = setting.run(&plan, &Throttle::none(), 1)?;
            setting.report(&format!("one device, {limit} MB, {encoding}"), &plan, &run, &Throttle::none(), "<= 1.15");
            speeds.push(run.speed());
        }
        let (raw, compact) = (&speeds[0], &speeds[1]);
        ratio("  tokens/s compact / raw", &compact.times(1.0 / raw.median()), "> 1");
        if let Some(llama) = llama {
            let group = MemoryLimit::new(limit * MEGABYTE)?;
            // Page cache that others paid for is not in the limit: it would be memory for nothing.
            peer::evict(&bench.gguf)?;
            let speed = peer::llama_within(Some(&group), llama, &bench.gguf, bench.threads, 1, 4)?;
            figure("  llama.cpp in the same memory", &Samples::from([speed.decode]), "tokens/s");
            ratio("  tokens/s raw / llama.cpp", &raw.times(1.0 / speed.decode), ">= 1.5, 2, 4");
            ratio("  tokens/s compact / llama.cpp", &compact.times(1.0 / speed.decode), ">= 1.5, 2, 4");
        }
    }
    Ok(())
}

/// A quantized model: one device that may use 0.4, 0.65 and 0.85 of its weights, two devices of 0.45 GB, and eight sequences at once.
pub(crate) fn quantized(bench: &Bench, name: &str, lime: &Path, peers: &quants::Peers<'_>) -> Result<()> {
    let setting = Setting::with(bench, lime, &[Encoding::Raw])?;
    let weights = setting.card.weight_bytes().0;
    for (percent, times) in [(40, ">= 1.5"), (65, ">= 2"), (85, ">= 4")] {
        let limit = weights / 100 * percent;
        let plan = setting.searched(&[limit], None, Some(Encoding::Raw))?;
        let run = setting.run(&plan, &Throttle::none(), 1)?;
        let what = format!("{name}, one device, {percent} % of the weights");
        setting.report(&what, &plan, &run, &Throttle::none(), "<= 1.15");
        if let Some(llama) = peers.llama {
            let group = MemoryLimit::new(limit)?;
            peer::evict(&bench.gguf)?;
            let speed = peer::llama_within(Some(&group), llama, &bench.gguf, bench.threads, 1, 4)?;
            figure("  llama.cpp in the same memory", &Samples::from([speed.decode]), "tokens/s");
            ratio("  tokens/s / llama.cpp", &run.speed().times(1.0 / speed.decode), times);
        }
        if percent == 65 {
            let eight = setting.run(&plan, &Throttle::none(), 8)?;
            let over = [run.over_disk(), eight.over_disk()];
            ratio(
                "  tokens/s of eight / of one, at one disk's speed",
                &Samples::from([8.0 * over[0] / over[1]]),
                ">= 4",
            );
        }
    }
    let plan = setting.searched(&[450 * MEGABYTE; 2], None, Some(Encoding::Raw))?;
    let run = setting.run(&plan, &Throttle::none(), 1)?;
    setting.report(&format!("{name}, two devices, 450 MB each"), &plan, &run, &Throttle::none(), "<= 1.20");
    if let Some(prima) = peers.prima {
        let limits = (0..2).map(|_| MemoryLimit::new(450 * MEGABYTE)).collect::<Result<Vec<_>, _>>()?;
        peer::evict(&bench.gguf)?;
        let speed = peer::prima(prima, &bench.gguf, &limits, setting.card.layers as usize, 8)?;
        figure("  prima.cpp in the same memory", &Samples::from([speed]), "tokens/s");
        ratio("  tokens/s / prima.cpp", &run.speed().times(1.0 / speed), ">= 2");
    }
    Ok(())
}

/// How long rings take until they are ready: one device of 0.7, 1.2 and 1.8 GB, two of 0.8 GB and four of 0.4 GB.
pub(crate) fn start(bench: &Bench, lime: &Path) -> Result<()> {
    let setting = Setting::new(bench, lime)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for (count, limit) in [(1, 700), (1, 1200), (1, 1800), (2, 800), (4, 400)] {
        for encoding in [Encoding::Raw, Encoding::Compact] {
            let plan = setting.searched(&vec![limit * MEGABYTE; count], None, Some(encoding))?;
            let pinned = plan.devices.iter().map(|device| device.memory.pinned).sum::<Bytes>();
            println!("{count} devices, {limit} MB each, {encoding}: {pinned} pinned");
            let begin = |_| Ok(setting.begin(&runtime, &plan, &Throttle::none())?.start);
            report_starts(&(0..bench.rounds).map(begin).collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(())
}

/// Two devices of 0.8 GB and four of 0.4 GB.
pub(crate) fn ring(bench: &Bench, lime: &Path, prima: Option<&Path>) -> Result<()> {
    let setting = Setting::new(bench, lime)?;
    for (count, limit) in [(2, 800), (4, 400)] {
        let mut speeds = Vec::new();
        for encoding in [Encoding::Raw, Encoding::Compact] {
            let plan = setting.searched(&vec![limit * MEGABYTE; count], None, Some(encoding))?;
            let run = setting.run(&plan, &Throttle::none(), 1)?;
            let what = format!("{count} devices, {limit} MB each, {encoding}");
            setting.report(&what, &plan, &run, &Throttle::none(), "<= 1.20");
            speeds.push(run.speed());
        }
        if let Some(prima) = prima {
            let limits = (0..count).map(|_| MemoryLimit::new(limit * MEGABYTE)).collect::<Result<Vec<_>, _>>()?;
            peer::evict(&bench.gguf)?;
            let speed = peer::prima(prima, &bench.gguf, &limits, setting.card.layers as usize, 8)?;
            figure("  prima.cpp in the same memory", &Samples::from([speed]), "tokens/s");
            ratio("  tokens/s raw / prima.cpp", &speeds[0].times(1.0 / speed), ">= 2");
            ratio("  tokens/s compact / prima.cpp", &speeds[1].times(1.0 / speed), ">= 2");
        }
    }
    Ok(())
}

/// 8 B parameters on two and four devices of 2 GB, compact: the raw blocks would not fit the disk beside the model everywhere.
pub(crate) fn large(bench: &Bench, lime: &Path) -> Result<()> {
    let setting = Setting::with(bench, lime, &[Encoding::Compact])?;
    for count in [2, 4] {
        let plan = setting.searched(&vec![2000 * MEGABYTE; count], None, Some(Encoding::Compact))?;
        let run = setting.run(&plan, &Throttle::none(), 1)?;
        let what = format!("8 B parameters, {count} devices, 2000 MB each, compact");
        setting.report(&what, &plan, &run, &Throttle::none(), "<= 1.20");
    }
    Ok(())
}

/// Eight sequences at once against one, one device of 1.2 GB.
pub(crate) fn batch(bench: &Bench, lime: &Path) -> Result<()> {
    let setting = Setting::new(bench, lime)?;
    let plan = setting.searched(&[1200 * MEGABYTE], None, Some(Encoding::Raw))?;
    let (one, eight) = (setting.run(&plan, &Throttle::none(), 1)?, setting.run(&plan, &Throttle::none(), 8)?);
    setting.report("one device, 1200 MB, one sequence", &plan, &one, &Throttle::none(), "<= 1.15");
    figure("  a pass of eight sequences", &eight.per_token.times(1e3), "ms");
    // Each against the disk of its own turn, so that the disk's mood is in neither.
    let (one, eight) = (one.over_disk(), eight.over_disk());
    ratio("  tokens/s of eight / of one, at one disk's speed", &Samples::from([8.0 * one / eight]), ">= 4");
    Ok(())
}

/// Two devices of 0.8 GB whose disks give 200 and 500 MB/s and whose links 100 Mbit/s: segments against none.
pub(crate) fn segments(bench: &Bench, lime: &Path) -> Result<()> {
    let setting = Setting::new(bench, lime)?;
    for disk in [200, 500] {
        let throttle = Throttle { disk: Some(disk * MEGABYTE), link: Some("100Mbit") };
        let mut times = Vec::new();
        for count in [1, 2] {
            let plan = setting.by_hand(2, count, 800 * MEGABYTE)?;
            let run = setting.run(&plan, &throttle, 1)?;
            let what = format!("2 devices, 800 MB, disks {disk} MB/s, {count} segments");
            setting.report(&what, &plan, &run, &throttle, "<= 1.20");
            times.push(run.per_token.median());
        }
        ratio("  time with one segment / with two", &Samples::from([times[0] / times[1]]), "(a gain: above 1)");
        for encoding in [Encoding::Raw, Encoding::Compact] {
            let plan = setting.searched(&[800 * MEGABYTE; 2], Some(&throttle), Some(encoding))?;
            let run = setting.run(&plan, &throttle, 1)?;
            let (devices, segments) = (plan.devices.len(), plan.segments);
            let what = format!("the same, {encoding}, as planned: {devices} devices, {segments} segments");
            setting.report(&what, &plan, &run, &throttle, "<= 1.20");
        }
    }
    Ok(())
}

/// Throttles of every device.
struct Throttle {
    disk: Option<u64>,
    link: Option<&'static str>,
}

impl Throttle {
    const fn none() -> Self {
        Self { disk: None, link: None }
    }
}

/// What was measured of one plan.
struct Run {
    /// Seconds a pass, in each round.
    per_token: Samples,
    /// Bytes per second that the disk gave just before and after, in each round; none where nothing is streamed.
    disk: Samples,
    start: Start,
    /// The most memory that any worker used, where limits can be had.
    peak: Option<u64>,
}

/// How a ring started.
struct Start {
    /// Until it was ready.
    seconds: f64,
    /// Bytes per second of the first touch of the memory that is pinned: as the machine was, and at once again, as it was when
    /// the ring started.
    touch: [f64; 2],
    /// The time over that of reading what is pinned, at the disk's speed just before and after.
    over_reading: f64,
}

/// A ring that runs.
struct Started {
    driver: RingDriver,
    start: Start,
    limits: Vec<Option<MemoryLimit>>,
    /// After the driver, which they would otherwise be seen to leave.
    _workers: Vec<WorkerProcess>,
}

impl Run {
    fn speed(&self) -> Samples {
        self.per_token.inverse()
    }

    /// Seconds of a pass at a disk of one byte per second.
    fn over_disk(&self) -> f64 {
        self.per_token.over(&self.disk.inverse()).median()
    }
}

/// What all measurements of a run share.
struct Setting<'a> {
    bench: &'a Bench,
    lime: &'a Path,
    card: ModelCard,
    store: PathBuf,
    stored: StoredModel,
    /// All blocks, to be read.
    reading: Reading,
    /// Seconds a token with all weights in memory: raw, and compact.
    compute: [f64; 2],
}

impl<'a> Setting<'a> {
    fn new(bench: &'a Bench, lime: &'a Path) -> Result<Self> {
        Self::with(bench, lime, &[Encoding::Raw, Encoding::Compact])
    }

    /// A setting in which weights lie in these encodings.
    fn with(bench: &'a Bench, lime: &'a Path, encodings: &[Encoding]) -> Result<Self> {
        let store = bench.folder.with_file_name("store");
        let folder = ModelFolder::open(&bench.folder)?;
        let card = folder.surveyed_card("synthetic");
        let stored = Store::open(&store)?.model(&Source::from(std::fs::canonicalize(&bench.folder)?))?;
        let blocks: Vec<_> = card.all_blocks().collect();
        for &encoding in encodings {
            stored.ensure(&blocks, EnsureOptions { encoding, ..EnsureOptions::default() }, &mut |_| {})?;
        }
        let reading = Reading::of(&stored, &blocks, encodings[0])?;
        let disk = reading.bandwidth()?;
        let mut this = Self { bench, lime, card, store, stored, reading, compute: [0.0; 2] };
        let forms = [(Encoding::Raw, Some(this.card.clone())), (Encoding::Compact, this.card.compacted())];
        for (form, (_, card)) in forms.iter().enumerate().filter(|(_, (form, _))| encodings.contains(form)) {
            let card = card.as_ref().context("the model's weights can be compact")?;
            let pinned = even_plan(card, 1, 1, this.serving(), this.kv())?;
            this.compute[form] = this.run(&pinned, &Throttle::none(), 1)?.per_token.median();
        }
        println!("weights {}, {} threads", this.card.weight_bytes(), bench.threads);
        figure("direct reads", &Samples::from([disk / 1e9]), "GB/s");
        figure("time per token, all weights in memory", &Samples::from([this.compute[0] * 1e3]), "ms");
        if encodings.contains(&Encoding::Compact) {
            figure("the same, compact", &Samples::from([this.compute[1] * 1e3]), "ms");
        }
        Ok(this)
    }

    /// The type of KV entries.
    const fn kv(&self) -> Dtype {
        match self.card.dtype() {
            Dtype::Bf16 => Dtype::Bf16,
            _ => Dtype::F16,
        }
    }

    const fn serving(&self) -> ServingLimits {
        ServingLimits { max_context_tokens: 256, max_concurrent_requests: 8, prefill_chunk_tokens: 16 }
    }

    /// The planner's choice for devices of these sizes.
    fn searched(&self, memory: &[u64], throttle: Option<&Throttle>, encoding: Option<Encoding>) -> Result<Plan> {
        let disk = match throttle.and_then(|throttle| throttle.disk) {
            Some(disk) => disk as f64,
            None => self.reading.bandwidth()? / memory.len() as f64,
        };
        // Where raw weights were not measured they are not planned with either.
        let bandwidth = self.card.weight_bytes().0 as f64 / self.compute[0].max(1e-3);
        let compact = self.card.compacted().map(|card| (card.weight_bytes().0 as f64 / self.compute[1]) as u64);
        let node = |(index, memory): (usize, &u64)| NodeProfile {
            name: format!("device-{index}"),
            memory: Bytes(*memory),
            overhead: OVERHEAD,
            memory_bandwidth: bandwidth as u64,
            compact_bandwidth: compact,
            throughput: (0.8 * machine::fma_peak(self.bench.threads)) as u64,
            disk_bandwidth: Some(disk as u64),
            block_latency: Nanos::ZERO,
            formats: Default::default(),
        };
        let link = match throttle.and_then(|throttle| throttle.link) {
            Some(_) => Link { bandwidth: 12_500_000, latency: Nanos(100_000) },
            None => Link { bandwidth: 1_000_000_000, latency: Nanos(100_000) },
        };
        let fleet = Fleet::uniform(memory.iter().enumerate().map(node).collect(), link);
        let goal = Goal { serving: self.serving(), encoding, ..Goal::sporadic(&self.card, 256) };
        lime_planner::plan(&self.card, &fleet, &goal).map_err(|refusal| anyhow::anyhow!("{refusal}"))
    }

    /// Equal shares; of each every second, then more MLPs stream until the rest and a buffer of two fit.
    fn by_hand(&self, devices: usize, segments: u32, memory: u64) -> Result<Plan> {
        let mut plan = even_plan(&self.card, devices, segments, self.serving(), self.kv())?.into_draft();
        for index in 0..plan.devices.len() {
            let mlps = plan.devices[index].blocks.iter().enumerate();
            let mlps: Vec<usize> = mlps
                .filter(|(_, placed)| matches!(placed.block, lime_plan::Block::Mlp(_)))
                .map(|(place, _)| place)
                .collect();
            let fits = (1..=mlps.len()).find_map(|count| {
                let mut blocks: Vec<PlacedBlock> = plan.devices[index].blocks.clone();
                for turn in 0..count {
                    blocks[mlps[turn * mlps.len() / count]].residency = Residency::Streamed;
                }
                let one = self.card.block_bytes(blocks[mlps[0]].block).0;
                let counted = MemoryModel::of(&plan).device(&blocks).used() + OVERHEAD;
                let room = memory.checked_sub(counted.0).filter(|room| *room >= one * count.min(2) as u64)?;
                Some((blocks, Bytes(room.min(one * count as u64))))
            });
            let (blocks, prefetch) = fits.context("too little memory for this plan")?;
            let needed = MemoryModel::of(&plan).device(&blocks);
            let device = &mut plan.devices[index];
            device.memory = lime_plan::DeviceMemory { prefetch, overhead: OVERHEAD, budget: Bytes(memory), ..needed };
            device.blocks = blocks;
        }
        Ok(plan.try_into()?)
    }

    fn run(&self, plan: &Plan, throttle: &Throttle, batch: u32) -> Result<Run> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // In the order of the ring, as a pass of the whole ring meets them.
        let reading = self.reading_of(plan, Residency::Streamed)?;
        let mut ring = self.begin(&runtime, plan, throttle)?;
        let reading = reading.filter(|_| throttle.disk.is_none());
        let (per_token, rates) = runtime.block_on(self.time(&mut ring.driver, batch, reading.as_ref()))?;
        let peak = ring.limits.iter().flatten().filter_map(|limit| limit.peak().ok()).max();
        Ok(Run { per_token, disk: rates, start: ring.start, peak })
    }

    /// The blocks of this residency; `None` where there are none.
    fn reading_of(&self, plan: &Plan, residency: Residency) -> Result<Option<Reading>> {
        let blocks = plan.devices.iter().flat_map(|device| &device.blocks);
        let blocks: Vec<Block> =
            blocks.filter(|placed| placed.residency == residency).map(|placed| placed.block).collect();
        (!blocks.is_empty()).then(|| Reading::of(&self.stored, &blocks, plan.model.encoding)).transpose()
    }

    /// Starts a ring, and measures the disk by what it will read just before and after, where it is not throttled.
    fn begin(&self, runtime: &tokio::runtime::Runtime, plan: &Plan, throttle: &Throttle) -> Result<Started> {
        let (mut limits, mut workers) = (Vec::new(), Vec::new());
        for device in &plan.devices {
            let limited = device.memory.budget < Bytes::gib(16);
            let limit = limited.then(|| MemoryLimit::new(device.memory.budget.0)).transpose();
            let limit = limit.unwrap_or_else(|why| {
                println!("  no hard limit: control groups cannot be made here ({why})");
                None
            });
            let options = WorkerOptions {
                store: Some(&self.store),
                disk: throttle.disk,
                link: throttle.link,
                pages: None,
                memory: limit.as_ref(),
            };
            let (name, folder, threads) = (&device.name, &self.bench.folder, self.bench.threads);
            workers.push(WorkerProcess::start_with(self.lime, name, folder, threads, &options)?);
            limits.push(limit);
        }
        let uris: Vec<String> = workers.iter().map(|worker| worker.uri.clone()).collect();
        let topology = topology(plan, &uris)?;
        let pinned = plan.devices.iter().map(|device| device.memory.pinned.0).sum::<u64>();
        let reading = self.reading_of(plan, Residency::Pinned)?;
        let disk = || reading.as_ref().map_or(Ok(f64::INFINITY), Reading::bandwidth);
        let before = disk()?;
        let touch = || memory::touch(pinned as usize, self.bench.threads);
        let touch = [touch()?, touch()?];
        let begin = Instant::now();
        let driver = RingDriver::configure(&topology, 1, Duration::from_secs(300), |_, _| {});
        let driver = runtime.block_on(driver)?;
        let seconds = begin.elapsed().as_secs_f64();
        let given = f64::midpoint(before, disk()?);
        let rate = throttle.disk.map_or(given, |disk| (disk as f64 * plan.devices.len() as f64).min(given));
        let start = Start { seconds, touch, over_reading: seconds / (pinned as f64 / rate) };
        Ok(Started { driver, start, limits, _workers: workers })
    }

    /// Seconds a pass with one row of each of `batch` sequences, and what the disk gave between the rounds.
    async fn time(&self, driver: &mut RingDriver, batch: u32, disk: Option<&Reading>) -> Result<(Samples, Samples)> {
        for slot in 0..batch {
            pass(driver, slot..slot + 1, 0, 16).await?;
        }
        let (mut times, mut rates) = (Samples::default(), Samples::default());
        let mut position = 16;
        let mut before = disk.map(Reading::bandwidth).transpose()?;
        for _ in 0..if disk.is_some() { TURNS } else { 3 } {
            // The buffers are full after a pause: the first pass of a turn has less to wait for.
            pass(driver, 0..batch, position, 1).await?;
            position += 1;
            let (begin, mut count) = (Instant::now(), 0);
            while count < self.bench.tokens.max(3) && (count < 3 || begin.elapsed() < PATIENCE) {
                pass(driver, 0..batch, position, 1).await?;
                (position, count) = (position + 1, count + 1);
            }
            times.push(begin.elapsed().as_secs_f64() / count as f64);
            let after = disk.map(Reading::bandwidth).transpose()?;
            if let (Some(before), Some(after)) = (before, after) {
                rates.push(f64::midpoint(before, after));
            }
            before = after;
        }
        Ok((times, rates))
    }

    fn report(&self, what: &str, plan: &Plan, run: &Run, throttle: &Throttle, target: &str) {
        let streamed = |device: &lime_plan::DevicePlan| -> f64 {
            let placed = device.blocks.iter().filter(|placed| placed.residency == Residency::Streamed);
            placed.map(|placed| plan.model.block_bytes(placed.block).0 as f64).sum()
        };
        let total: f64 = plan.devices.iter().map(streamed).sum();
        let most = plan.devices.iter().map(streamed).fold(0.0, f64::max);
        let compute = self.compute[usize::from(plan.model.encoding == Encoding::Compact)];
        // Each device has a disk of its own only where it is throttled.
        let bound = match throttle.disk {
            Some(disk) => Samples::from([1.0; 3]).times((most / disk as f64).max(compute)),
            None if total == 0.0 => run.per_token.map(|_| compute),
            None => run.disk.map(|disk| (total / disk).max(compute)),
        };
        println!("{what}: {} devices, {} segments", plan.devices.len(), plan.segments);
        figure("  streamed in a pass", &Samples::from([total / 1e9]), "GB");
        if throttle.disk.is_none() {
            figure("  direct reads of the same blocks, in turns", &run.disk.times(1e-9), "GB/s");
        }
        figure("  time per token", &run.per_token.times(1e3), "ms");
        figure("  max(compute, streamed / disk)", &bound.times(1e3), "ms");
        ratio("  time per token / that", &run.per_token.over(&bound), target);
        if let Some(outlook) = &plan.outlook {
            let predicted = outlook.prediction.time_per_token.seconds();
            ratio("  time per token / predicted", &run.per_token.times(1.0 / predicted), "0.9 to 1.1");
        }
        report_starts(std::slice::from_ref(&run.start));
        if let Some(peak) = run.peak {
            let budget = plan.devices.iter().map(|device| device.memory.budget.0).max().unwrap_or(1);
            figure("  most memory of a worker, page cache counted", &Samples::from([peak as f64 / 1e6]), "MB");
            ratio("  that / its limit", &Samples::from([peak as f64 / budget as f64]), "<= 1");
        }
    }
}

fn report_starts(starts: &[Start]) {
    let each = |of: &dyn Fn(&Start) -> f64| starts.iter().map(of).collect::<Samples>();
    figure("  first touch of what is pinned, before", &each(&|start| start.touch[0] / 1e9), "GB/s");
    figure("  the same again, as at the start", &each(&|start| start.touch[1] / 1e9), "GB/s");
    figure("  start", &each(&|start| start.seconds), "s");
    ratio("  start / (pinned bytes / disk)", &each(&|start| start.over_reading), "<= 1.3");
}

async fn pass(driver: &mut RingDriver, slots: std::ops::Range<u32>, start: u32, count: u32) -> Result<()> {
    let rows = slots
        .clone()
        .map(|slot| Rows { slot, start, count, sample: Some(Sampling::default()), ..Rows::default() })
        .collect();
    let tokens = slots.flat_map(|slot| (1..=count).map(move |index| 1 + slot * 31 + index)).collect();
    driver.submit(rows, tokens, Vec::new()).await?;
    let result = driver.next().await?;
    ensure!(result.failure.is_empty(), "a pass failed: {}", result.failure);
    Ok(())
}
