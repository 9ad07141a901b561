//! A process under a hard memory limit whose context grows until the KV cache takes half of it, and one whose limit is lowered
//! while it serves: the same bits as with ample memory, and nobody is killed.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _, stdin},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lime_engine::{Engine, EngineOptions, Shortage, WeightSource};
use lime_model::ModelFolder;
use lime_plan::{
    BatchRows, Bytes, DeviceIndex, DeviceSteps, Dtype, Fleet, Goal, Link, MemoryModel, Nanos, NodeProfile, Plan,
    SegmentIndex,
};
use lime_planner::plan;
use lime_store::{EnsureOptions, Source, Store};
use lime_tests::{
    memory_limit::MemoryLimit,
    ring::{Sequence, Workers, drive},
    synthetic::{Shape, write_folder},
};

const SHAPE: Shape = Shape::LLAMA_81M;
const LIMIT: u64 = 128_000_000;
const CONTEXT: u32 = 1408;
/// Names the folder for the process that is limited.
const CHILD: &str = "LIME_TEST_ADAPTING";

/// What the planner makes of one device with a disk and `memory`.
fn planned(folder: &ModelFolder, memory: u64) -> Result<Plan> {
    let node = NodeProfile {
        name: "device-0".into(),
        memory: Bytes(memory),
        overhead: Bytes::mib(24),
        memory_bandwidth: 20_000_000_000,
        compact_bandwidth: None,
        throughput: 100_000_000_000,
        disk_bandwidth: Some(1_500_000_000),
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    };
    let mut goal = Goal::sporadic(&folder.card("test"), CONTEXT);
    goal.serving.prefill_chunk_tokens = 64;
    goal.typical_context = Some(128);
    goal.kv = Dtype::F32;
    let link = Link { bandwidth: 1_000_000_000, latency: Nanos::ZERO };
    plan(&folder.card("test"), &Fleet::uniform(vec![node], link), &goal).map_err(|refusal| anyhow::anyhow!("{refusal}"))
}

/// The model and its blocks in a store.
fn prepare(dir: &Path) -> Result<ModelFolder> {
    let model = dir.join("model");
    write_folder(&SHAPE, &model)?;
    let folder = ModelFolder::open(&model)?;
    let blocks: Vec<_> = folder.card("test").all_blocks().collect();
    let stored = Store::open(dir.join("store"))?.model(&Source::Folder(model))?;
    stored.ensure(&blocks, EnsureOptions::default(), &mut |_| {})?;
    Ok(folder)
}

fn options() -> EngineOptions {
    EngineOptions { threads: 2, ..EngineOptions::default() }
}

/// Fills the context, page by page: 60 rows at once and four tokens one by one. Gives a sum over the bits of all logits, and how
/// long each of the single tokens took.
fn fill(engine: &mut Engine, mut after: impl FnMut(&Engine)) -> Result<(u64, Vec<Duration>)> {
    let (mut sum, mut start, mut times) = (7_u64, 0, Vec::new());
    while start < CONTEXT {
        let count = if start.is_multiple_of(64) { 60 } else { 1 };
        let tokens: Vec<u32> = (0..count).map(|at| ((sum ^ u64::from(at * 977)) % 2000) as u32).collect();
        let began = Instant::now();
        let mut activation = engine.embed(&tokens)?;
        engine.forward(SegmentIndex(0), &[BatchRows { slot: 0, start, count }], &mut activation)?;
        let logits = engine.logits(&[tokens.len() - 1], &activation)?;
        if count == 1 {
            times.push(began.elapsed());
        }
        let fold = |sum: u64, logit: &f32| sum.wrapping_mul(31).wrapping_add(u64::from(logit.to_bits()));
        sum = logits.iter().fold(sum, fold);
        start += count;
        after(engine);
    }
    Ok((sum, times))
}

/// Runs in the process that is limited, and only there.
#[test]
fn growing_in_the_limited_process() -> Result<()> {
    let Some(dir) = env::var_os(CHILD).map(PathBuf::from) else { return Ok(()) };
    let folder = ModelFolder::open(dir.join("model"))?;
    let stored = Store::open(dir.join("store"))?.model(&Source::Folder(folder.path().to_owned()))?;
    let source = WeightSource::stored(&folder, Arc::new(stored));
    let plan = planned(&folder, LIMIT)?;
    let mut engine = Engine::load(source, &plan, DeviceIndex(0), options(), &mut |_, _| {})?;
    let residency = engine.residency();
    let (mut level, mut changes) = (0, Vec::new());
    let (sum, times) = fill(&mut engine, |engine| {
        let figures = residency.figures();
        if figures.level != level {
            changes.push(format!("{} of KV: {} of {} steps", figures.kv, figures.level, figures.steps));
            level = figures.level;
        }
        let memory = engine.memory();
        assert!(memory.used() <= memory.budget, "{memory:?}");
    })?;
    let figures = residency.figures();
    ensure!(figures.level > 0 && figures.kv.0 * 2 >= LIMIT, "{figures:?}");
    // Passes over short sequences bring the blocks back.
    engine.release(0);
    for start in 0..60 {
        let mut activation = engine.embed(&[5])?;
        engine.forward(SegmentIndex(0), &[BatchRows { slot: 0, start, count: 1 }], &mut activation)?;
    }
    let after = residency.figures();
    ensure!(after.level == 0 && after.undone == figures.taken, "{after:?}");
    let (began, soft) = (Instant::now(), Bytes(plan.devices[0].memory.pinned.0 / 2));
    engine.press(Shortage { hard: Bytes::ZERO, soft }, "the test")?;
    let (took, steps) = (began.elapsed(), residency.figures().level);
    println!("{steps} steps at once take {took:?}");

    let mut sorted = times.clone();
    sorted.sort();
    let median = sorted[sorted.len() / 2];
    // What a token takes grows with the number of blocks that stream: so each is compared with its neighbours.
    let around = |at: usize| {
        let mut near = times[at.saturating_sub(4)..(at + 5).min(times.len())].to_vec();
        near.sort();
        near[near.len() / 2]
    };
    let worst = (0..times.len()).map(|at| times[at].as_secs_f64() / around(at).as_secs_f64()).fold(0.0, f64::max);
    changes.iter().for_each(|change| println!("{change}"));
    println!("median {median:?}, longest {:?}, longest against its neighbours {worst:.2}", sorted[sorted.len() - 1]);
    println!("@answer {sum}");
    Ok(())
}

#[test]
fn the_cache_grows_to_half_of_the_memory() -> Result<()> {
    let Some(limit) = limit()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let folder = prepare(dir.path())?;
    let plan = planned(&folder, LIMIT)?;
    let (device, longest) = (&plan.devices[0], MemoryModel::of(&plan).kv(SHAPE.layers as u32));
    ensure!(device.memory.kv < longest && DeviceSteps::of(&plan, device)?.most() >= longest, "{:?}", device.memory);

    let mut command = limit.command(&env::current_exe()?);
    command.args(["--exact", "growing_in_the_limited_process", "--nocapture", "--test-threads=1"]);
    let output = command.env(CHILD, dir.path()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the limited process ended with {}: {said}{errors}", output.status);
    let found = said.lines().find_map(|line| line.strip_prefix("@answer ")).context("no answer")?;

    let ample = planned(&folder, 1 << 30)?;
    ensure!(ample.devices[0].steps.is_empty(), "everything fits");
    let mut engine = Engine::load(&folder, &ample, DeviceIndex(0), options(), &mut |_, _| {})?;
    assert_eq!(found, fill(&mut engine, |_| ())?.0.to_string());
    println!("{said}limit {}, most used {}", Bytes(LIMIT), Bytes(limit.peak()?));
    Ok(())
}

fn limit() -> Result<Option<MemoryLimit>> {
    if env::var_os(CHILD).is_some() {
        return Ok(None);
    }
    match MemoryLimit::new(LIMIT) {
        Ok(limit) => Ok(Some(limit)),
        Err(why) => {
            println!("skipped: no control group can be made here ({why})");
            Ok(None)
        }
    }
}

fn sequences() -> Vec<Sequence> {
    let prompt = (0..100).map(|index| 2 + index * 131 % 1900).collect();
    vec![Sequence { prompt, draws: 12, temperature: 0.7, seed: 5 }]
}

/// Serves in the process that is limited, and only there: says what it has come to, and goes on when it is told.
#[tokio::test]
async fn serving_in_the_limited_process() -> Result<()> {
    let Some(dir) = env::var_os(CHILD).map(PathBuf::from) else { return Ok(()) };
    let plan = planned(&ModelFolder::open(dir.join("model"))?, LIMIT)?;
    let mut workers = Workers::start_with_store(&dir.join("model"), Some(&dir.join("store")), 1, 2).await?;
    let mut ring = workers.configure(&plan).await?;
    let expected = drive(&mut ring, &sequences(), 64).await?;
    let wait = |line: &str| -> Result<()> {
        println!("{line}");
        stdin().read_line(&mut String::new())?;
        Ok(())
    };
    for (line, enough) in [("@serving", 1), ("@gave way", 1), ("@held", 0)] {
        wait(line)?;
        let begin = Instant::now();
        loop {
            ensure!(drive(&mut ring, &sequences(), 64).await? == expected, "other bits after {line:?}");
            let status = workers.status().await?.swap_remove(0);
            let there =
                if enough > 0 { status.memory().steps_in_force >= enough } else { status.memory().steps_in_force == 0 };
            if there && begin.elapsed() > Duration::from_secs(2) {
                println!(
                    "{} of {} steps, {} taken",
                    status.memory().steps_in_force,
                    status.memory().steps_planned,
                    status.memory().steps_taken
                );
                break;
            }
            ensure!(begin.elapsed() < Duration::from_secs(60), "after {line:?}: {status:?}");
        }
    }
    workers.stop().await?;
    println!("@answer {:?}", expected[0].tokens);
    Ok(())
}

struct Served {
    child: Child,
    says: BufReader<ChildStdout>,
    told: ChildStdin,
}

impl Served {
    fn until(&mut self, wanted: &str) -> Result<String> {
        let mut line = String::new();
        while self.says.read_line(&mut line)? > 0 {
            print!("  {line}");
            // The test runner may begin the line.
            if let Some((_, rest)) = line.split_once(wanted) {
                return Ok(rest.trim().to_owned());
            }
            line.clear();
        }
        bail!("the limited process ended with {} before it said {wanted:?}", self.child.wait()?)
    }

    fn go_on(&mut self) -> Result<()> {
        Ok(writeln!(self.told)?)
    }
}

#[tokio::test]
async fn the_limit_is_lowered_while_serving() -> Result<()> {
    let Some(limit) = limit()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let folder = prepare(dir.path())?;
    let mut command = limit.command(&env::current_exe()?);
    command.args(["--exact", "serving_in_the_limited_process", "--nocapture", "--test-threads=1"]);
    let mut child = command.env(CHILD, dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let says = BufReader::new(child.stdout.take().context("no output")?);
    let told = child.stdin.take().context("no input")?;
    let mut served = Served { child, says, told };

    // First the limit that asks, then, when blocks have given way, the one that kills.
    let lower = LIMIT - 24_000_000;
    served.until("@serving")?;
    limit.set_soft(lower)?;
    served.go_on()?;
    served.until("@gave way")?;
    limit.set(lower)?;
    served.go_on()?;
    served.until("@held")?;
    limit.set(LIMIT)?;
    limit.set_soft(LIMIT)?;
    served.go_on()?;
    let found = served.until("@answer")?;
    ensure!(served.child.wait()?.success(), "the limited process did not end well");

    let mut workers = Workers::start(folder.path(), 1, 2).await?;
    let mut ring = workers.configure(&planned(&folder, 1 << 30)?).await?;
    let expected = drive(&mut ring, &sequences(), 64).await?;
    assert_eq!(found, format!("{:?}", expected[0].tokens));
    workers.stop().await
}
