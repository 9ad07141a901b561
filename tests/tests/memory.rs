//! A process under a hard memory limit serves a model that is larger, with the same bits, and is not killed for it.

use std::{env, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use lime_engine::{Engine, EngineOptions, WeightSource};
use lime_model::ModelFolder;
use lime_plan::{
    BatchRows, Block, Bytes, DeviceIndex, DeviceMemory, Dtype, MemoryModel, Plan, Residency, SegmentIndex,
    ServingLimits,
};
use lime_store::{EnsureOptions, Source, Store};
use lime_tests::{
    memory_limit::MemoryLimit,
    ring::even_plan,
    synthetic::{Shape, write_folder},
};

/// 150 MB of weights.
const SHAPE: Shape = Shape {
    hidden: 1024,
    intermediate: 2816,
    layers: 6,
    heads: 16,
    kv_heads: 8,
    head_dim: 64,
    vocabulary: 2000,
    context: 256,
};
const LIMIT: u64 = 96_000_000;
const OVERHEAD: Bytes = Bytes::mib(24);
/// Names the folder for the process that is limited.
const CHILD: &str = "LIME_TEST_LIMITED";

/// All in memory, or with MLPs streamed so that it fits the limit.
fn plan(folder: &ModelFolder, streams: bool) -> Result<Plan> {
    let serving = ServingLimits { max_context_tokens: 128, max_concurrent_requests: 1, prefill_chunk_tokens: 32 };
    let card = folder.card("test");
    let mut plan = even_plan(&card, 1, 1, serving, Dtype::Bf16)?.into_draft();
    if streams {
        let mut blocks = plan.devices[0].blocks.clone();
        for placed in blocks.iter_mut().filter(|placed| matches!(placed.block, Block::Mlp(_))) {
            placed.residency = Residency::Streamed;
        }
        let needed = MemoryModel::of(&plan).device(&blocks);
        let room = LIMIT.checked_sub((needed.used() + OVERHEAD).0).map(Bytes).context("the test's limit is too low")?;
        let prefetch = room.min(card.blocks.mlp.iter().copied().sum());
        let memory = DeviceMemory { prefetch, overhead: OVERHEAD, budget: Bytes(LIMIT), ..needed };
        (plan.devices[0].blocks, plan.devices[0].memory) = (blocks, memory);
    }
    Ok(plan.try_into()?)
}

/// A sum over the bits of all logits of a prompt and twenty tokens.
fn answer(engine: &mut Engine) -> Result<u64> {
    let mut sum = 0_u64;
    let mut tokens: Vec<u32> = (1..=20).collect();
    let mut start = 0;
    for _ in 0..20 {
        let mut activation = engine.embed(&tokens)?;
        let rows = [BatchRows { slot: 0, start, count: tokens.len() as u32 }];
        engine.forward(SegmentIndex(0), &rows, &mut activation)?;
        let logits = engine.logits(&[tokens.len() - 1], &activation)?;
        start += tokens.len() as u32;
        let fold = |sum: u64, logit: &f32| sum.wrapping_mul(31).wrapping_add(u64::from(logit.to_bits()));
        sum = logits.iter().fold(sum, fold);
        tokens = vec![(sum % 2000) as u32];
    }
    Ok(sum)
}

fn options() -> EngineOptions {
    EngineOptions { threads: 2, ..EngineOptions::default() }
}

/// Runs in the process that is limited, and only there.
#[test]
fn in_the_limited_process() -> Result<()> {
    let Some(dir) = env::var_os(CHILD) else { return Ok(()) };
    let folder = ModelFolder::open(Path::new(&dir).join("model"))?;
    let stored = Store::open(Path::new(&dir).join("store"))?.model(&Source::Folder(folder.path().to_owned()))?;
    let source = WeightSource::stored(&folder, Arc::new(stored));
    let mut engine = Engine::load(source, &plan(&folder, true)?, DeviceIndex(0), options(), &mut |_, _| {})?;
    println!("answer {}", answer(&mut engine)?);
    Ok(())
}

#[test]
fn a_model_larger_than_the_limit_is_served() -> Result<()> {
    if env::var_os(CHILD).is_some() {
        return Ok(());
    }
    let limit = match MemoryLimit::new(LIMIT) {
        Ok(limit) => limit,
        Err(why) => {
            println!("skipped: no control group can be made here ({why})");
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    write_folder(&SHAPE, &model)?;
    let folder = ModelFolder::open(&model)?;
    let blocks: Vec<_> = folder.card("test").all_blocks().collect();
    let stored = Store::open(dir.path().join("store"))?.model(&Source::Folder(model))?;
    stored.ensure(&blocks, EnsureOptions::default(), &mut |_| {})?;
    drop(stored);

    let output = limit
        .command(&env::current_exe()?)
        .args(["--exact", "in_the_limited_process", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the limited process ended with {}: {said}{errors}", output.status);
    let found = said.lines().find_map(|line| line.split_once("answer ")).context("no answer")?.1.trim().to_owned();

    let mut engine = Engine::load(&folder, &plan(&folder, false)?, DeviceIndex(0), options(), &mut |_, _| {})?;
    assert_eq!(found, answer(&mut engine)?.to_string());
    println!(
        "weights {}, limit {}, most used {}",
        folder.card("test").weight_bytes(),
        Bytes(LIMIT),
        Bytes(limit.peak()?)
    );
    Ok(())
}
