//! Compact weights give the bits of raw ones, kept and streamed, and come out of the store as they went in.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use lime_engine::{Engine, EngineError, EngineOptions, WeightSource};
use lime_model::ModelFolder;
use lime_plan::{
    Arithmetic, BatchRows, Block, Bytes, DeviceIndex, DeviceMemory, Dtype, Encoding, MemoryModel, ModelCard, Plan,
    Residency, SegmentIndex, ServingLimits,
};
use lime_store::{BlockState, EnsureOptions, Source, Store, StoredModel};
use lime_tests::{
    fixtures,
    ring::even_plan,
    synthetic::{Shape, write_folder},
};

/// With columns that are no multiple of the form's group.
const SHAPE: Shape = Shape {
    hidden: 192,
    intermediate: 352,
    layers: 3,
    heads: 6,
    kv_heads: 3,
    head_dim: 32,
    vocabulary: 500,
    context: 256,
};

/// All in memory, or with MLPs streamed through a buffer of the largest.
fn plan(card: &ModelCard, streams: bool) -> Result<Plan> {
    let serving = ServingLimits { max_context_tokens: 96, max_concurrent_requests: 1, prefill_chunk_tokens: 32 };
    let mut plan = even_plan(card, 1, 1, serving, Dtype::Bf16)?.into_draft();
    if streams {
        let mut blocks = plan.devices[0].blocks.clone();
        for placed in blocks.iter_mut().filter(|placed| matches!(placed.block, Block::Mlp(_))) {
            placed.residency = Residency::Streamed;
        }
        let needed = MemoryModel::of(&plan).device(&blocks);
        let prefetch = card.blocks.mlp.iter().copied().max().context("layers")?;
        let memory = DeviceMemory { prefetch, budget: needed.used() + prefetch, ..needed };
        (plan.devices[0].blocks, plan.devices[0].memory) = (blocks, memory);
    }
    Ok(plan.try_into()?)
}

/// The bits of all logits of a prompt of `rows` tokens and ten more, one by one.
fn answer(engine: &mut Engine, rows: u32) -> Result<Vec<u32>> {
    let (mut bits, mut tokens, mut start) = (Vec::new(), (1..=rows).collect::<Vec<u32>>(), 0);
    for _ in 0..10 {
        let mut activation = engine.embed(&tokens)?;
        let batch = [BatchRows { slot: 0, start, count: tokens.len() as u32 }];
        engine.forward(SegmentIndex(0), &batch, &mut activation)?;
        let logits = engine.logits(&[tokens.len() - 1], &activation)?;
        start += tokens.len() as u32;
        bits.extend(logits.iter().map(|logit| logit.to_bits()));
        tokens = vec![bits.last().copied().unwrap_or_default() % 400];
    }
    Ok(bits)
}

fn stored(root: &Path, model: &Path, encoding: Encoding) -> Result<StoredModel> {
    let stored = Store::open(root)?.model(&Source::Folder(model.to_owned()))?;
    let blocks: Vec<_> = stored.folder().card("test").all_blocks().collect();
    stored.ensure(&blocks, EnsureOptions { encoding, ..EnsureOptions::default() }, &mut |_| {})?;
    Ok(stored)
}

fn same_bits(model: &Path) -> Result<()> {
    let folder = ModelFolder::open(model)?;
    let card = folder.surveyed_card("test");
    let compact = card.compacted().context("these weights can be compact")?;
    let dir = tempfile::tempdir()?;
    let store = Arc::new(stored(dir.path(), model, Encoding::Compact)?);
    for threads in [1, 2] {
        let options = EngineOptions { threads, ..EngineOptions::default() };
        let mut raw = Engine::load(&folder, &plan(&card, false)?, DeviceIndex(0), options, &mut |_, _| {})?;
        for streams in [false, true] {
            let source = WeightSource::stored(&folder, store.clone());
            let plan = plan(&compact, streams)?;
            let mut engine = Engine::load(source, &plan, DeviceIndex(0), options, &mut |_, _| {})?;
            assert_eq!(engine.memory().pinned, plan.devices[0].memory.pinned, "to the byte");
            for rows in [1, 2, 3, 4, 17, 32] {
                raw.reset();
                engine.reset();
                assert!(answer(&mut engine, rows)? == answer(&mut raw, rows)?, "{rows} rows, streams: {streams}");
            }
        }
        drop(raw);
    }
    Ok(())
}

#[test]
fn synthetic_weights() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_folder(&SHAPE, dir.path())?;
    same_bits(dir.path())
}

#[test]
fn trained_weights() -> Result<()> {
    same_bits(&fixtures::bard())
}

#[test]
fn less_of_the_disk_and_of_memory() -> Result<()> {
    let card = ModelFolder::open(fixtures::bard())?.surveyed_card("test");
    let ratio = |compact: Bytes, raw: Bytes| compact.0 as f64 / raw.0 as f64;
    let compact = card.compacted().context("bard can be compact")?;
    let of = |card: &ModelCard| card.blocks.mlp[0];
    // Its rows of 352 columns are padded to 384.
    assert!(ratio(of(&compact), of(&card)) < 0.8, "{} of {}", of(&compact), of(&card));
    Ok(())
}

#[test]
fn raw_blocks_stay_where_they_were_and_go_where_they_were_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    write_folder(&SHAPE, &model)?;
    let bytes = |stored: &StoredModel| -> Bytes {
        stored.folder().card("").all_blocks().map(|block| stored.bytes_on_disk(block)).sum()
    };
    let compact = stored(&dir.path().join("one"), &model, Encoding::Compact)?;
    let raw = stored(&dir.path().join("two"), &model, Encoding::Raw)?;
    let (less, more) = (bytes(&compact), bytes(&raw));
    assert!(less < more, "{less} compact, {more} raw");
    drop((compact, raw));
    let both = stored(&dir.path().join("two"), &model, Encoding::Compact)?;
    assert!(bytes(&both) > more, "raw ones are left alone");
    assert!(both.verify(&both.folder().card("").all_blocks().collect::<Vec<_>>(), &|_, _| {})?.is_empty());
    Ok(())
}

#[test]
fn a_flipped_bit_is_found_and_the_block_made_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    write_folder(&SHAPE, &model)?;
    let store = stored(&dir.path().join("store"), &model, Encoding::Compact)?;
    let victim = Block::Mlp(lime_plan::LayerIndex(1));
    let path = fs::read_dir(store.path().join("blocks"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mlp-0001-compact.safe")))
        .context("the block's file")?;
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, &bytes)?;
    let damaged = store.verify(&[victim], &|_, _| {})?;
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    let folder = ModelFolder::open(&model)?;
    let plan = plan(&folder.surveyed_card("test").compacted().context("compact")?, false)?;
    let store = Arc::new(store);
    let load = || {
        let source = WeightSource::stored(&folder, store.clone());
        Engine::load(source, &plan, DeviceIndex(0), EngineOptions::default(), &mut |_, _| {}).map(drop)
    };
    assert!(matches!(load(), Err(EngineError::NotStored { block, .. }) if block == victim));
    store.discard(victim)?;
    assert_eq!(store.state(victim), BlockState::Absent);
    store.ensure(&[victim], EnsureOptions { encoding: Encoding::Compact, ..EnsureOptions::default() }, &mut |_| {})?;
    load()?;
    Ok(())
}

#[test]
fn candle_arithmetic_refuses_compact_weights() -> Result<()> {
    let (model, dir) = (fixtures::bard(), tempfile::tempdir()?);
    let folder = ModelFolder::open(&model)?;
    let plan = plan(&folder.surveyed_card("test").compacted().context("compact")?, false)?;
    let plan = plan.changed(|plan| plan.arithmetic = Arithmetic::Candle)?;
    let source = WeightSource::stored(&folder, Arc::new(stored(dir.path(), &model, Encoding::Compact)?));
    let loaded = Engine::load(source, &plan, DeviceIndex(0), EngineOptions::default(), &mut |_, _| {}).map(drop);
    assert!(matches!(loaded, Err(EngineError::CompactCandle)), "{loaded:?}");
    Ok(())
}

#[test]
fn without_a_store_there_are_no_compact_weights() -> Result<()> {
    let folder = ModelFolder::open(fixtures::bard())?;
    let plan = plan(&folder.surveyed_card("test").compacted().context("compact")?, false)?;
    let loaded = Engine::load(&folder, &plan, DeviceIndex(0), EngineOptions::default(), &mut |_, _| {}).map(drop);
    assert!(matches!(loaded, Err(EngineError::CompactWithoutStore)), "{loaded:?}");
    Ok(())
}
