//! Blocks that pass through memory: the same bits as from memory, to the byte within the plan, and faults that a request survives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use common::{Ring, Wish, WrittenBlocks, bits, bundled, streamed, with_steps};
use lime_engine::{BlockReader, DirectReader, Engine, EngineError, EngineOptions, Shortage, WeightSource};
use lime_model::{BlockFile, BlockFiles, BlockLayout, ModelFolder};
use lime_plan::{Arithmetic, BatchRows, Block, Bytes, DeviceIndex, Dtype, LayerIndex, Plan, Residency, ServingLimits};

fn wish(folder: &ModelFolder) -> Wish {
    let serving = ServingLimits { max_context_tokens: 140, max_concurrent_requests: 3, prefill_chunk_tokens: 70 };
    Wish { serving, kv: folder.config().dtype(), residual: Dtype::F32, ..Wish::golden(folder) }
}

fn options() -> EngineOptions {
    EngineOptions { threads: 1, ..EngineOptions::default() }
}

fn prompt(vocabulary: u32) -> Vec<u32> {
    (0..90).map(|index: u32| 3 + index.wrapping_mul(2_654_435_761) % (vocabulary - 3)).collect()
}

/// A prompt in two chunks, the first of which asks for no logits, and three decode steps.
fn answer(ring: &mut Ring, slot: u32) -> Vec<Vec<u32>> {
    let prompt = prompt(ring.plan.model.vocabulary);
    ring.pass(&[BatchRows { slot, start: 0, count: 60 }], &prompt[..60], &[59]);
    let mut steps = vec![bits(&ring.feed(slot, 60, &prompt[60..], 30))];
    for (index, token) in prompt[..3].iter().enumerate() {
        steps.push(bits(&ring.feed(slot, (prompt.len() + index) as u32, &[*token], 1)));
    }
    steps
}

fn all(_: Block) -> bool {
    true
}

fn none(_: Block) -> bool {
    false
}

fn mlps(block: Block) -> bool {
    matches!(block, Block::Mlp(_))
}

fn some(block: Block) -> bool {
    match block {
        Block::Attention(layer) => layer.0 % 3 == 1,
        Block::Mlp(layer) => layer.0 % 2 == 0,
        Block::Head => true,
        Block::Embedding => false,
    }
}

#[test]
fn every_residency_gives_the_same_bits() {
    for name in ["bard-2m", "tiny-qwen3-bf16", "tiny-llama-linear-f32"] {
        let folder = bundled(name);
        let (wish, blocks) = (wish(&folder), WrittenBlocks::write(&folder));
        let expected = answer(&mut Ring::plain(&folder, wish, 1), 0);
        let source = WeightSource::stored(&folder, blocks);
        let whole = [(1, 1, 0), (1, 4, 0), (2, 2, 1), (3, 1, 0), (2, 3, 0)].map(|ring| (ring, false));
        for ((devices, segments, head), cut_layers) in whole.into_iter().chain([((3, 2, 1), true)]) {
            let plan = Wish { devices, segments, head, cut_layers, ..wish }.plan(&folder);
            for (what, streams) in [("none", none as fn(Block) -> bool), ("mlps", mlps), ("some", some), ("all", all)] {
                for share in [0.0, 0.3, 1.0] {
                    let plan = streamed(plan.clone(), streams, share);
                    let mut ring = Ring::load(source.clone(), plan, options());
                    let setting =
                        format!("{name} {devices} devices {segments} segments, {what} streamed, share {share}");
                    assert!(answer(&mut ring, 1) == expected, "{setting}");
                    for engine in &ring.engines {
                        let (planned, taken) = (engine.device().memory, engine.memory());
                        assert!(taken.pinned == planned.pinned && taken.prefetch <= planned.prefetch, "{setting}");
                        assert!(taken.used() <= planned.budget, "{setting}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_figures_add_up() {
    let folder = bundled("bard-2m");
    let blocks = WrittenBlocks::write(&folder);
    let plan = streamed(wish(&folder).plan(&folder), mlps, 0.3);
    let mut ring = Ring::load(WeightSource::stored(&folder, blocks.clone()), plan, options());
    answer(&mut ring, 0);
    let figures = ring.engines[0].streaming().figures();
    let layers = u64::from(ring.plan.model.layers);
    assert_eq!(figures.streamed_blocks, layers);
    // Two chunks and three steps.
    assert_eq!(figures.hits + figures.misses, 5 * layers);
    assert_eq!(figures.used_bytes, 5 * figures.streamed_size);
    assert_eq!((figures.wasted_bytes, figures.retries), (0, 0));
    assert!(figures.read_bytes >= figures.used_bytes && figures.read_bytes <= 7 * figures.streamed_size);
}

/// Reads as it should, but fails so many times from so many reads on.
struct Failing {
    reader: DirectReader,
    sound: AtomicU32,
    faults: AtomicU32,
    short: bool,
}

impl Failing {
    fn after(sound: u32, faults: u32, short: bool) -> Arc<Self> {
        let (sound, faults) = (AtomicU32::new(sound), AtomicU32::new(faults));
        Arc::new(Self { reader: DirectReader::default(), sound, faults, short })
    }
}

fn count_down(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl BlockReader for Failing {
    fn read(&self, file: &BlockFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if !count_down(&self.sound) && count_down(&self.faults) {
            if self.short {
                return Ok(0);
            }
            return Err(io::Error::from_raw_os_error(5));
        }
        self.reader.read(file, offset, into)
    }

    fn is_direct(&self) -> bool {
        self.reader.is_direct()
    }
}

/// Blocks as they were written, with digests that say so, and their files for a test to damage.
struct Digested {
    blocks: Arc<WrittenBlocks>,
    right: BTreeMap<Block, Vec<u8>>,
    /// Whether everything passes.
    blind: AtomicBool,
}

impl Digested {
    fn write(folder: &ModelFolder) -> Arc<Self> {
        let mut this =
            Self { blocks: WrittenBlocks::write(folder), right: BTreeMap::new(), blind: AtomicBool::new(false) };
        for block in folder.card("test").all_blocks() {
            let bytes = std::fs::read(this.file(block, folder)).unwrap();
            this.right.insert(block, bytes[4096..].to_vec());
        }
        Arc::new(this)
    }

    fn file(&self, block: Block, folder: &ModelFolder) -> std::path::PathBuf {
        self.blocks.locate(block, &BlockLayout::of(folder.config(), block)).unwrap().path
    }

    /// Flips a bit of a block, or flips it back.
    fn flip(&self, block: Block, folder: &ModelFolder) {
        let file = std::fs::File::options().read(true).write(true).open(self.file(block, folder)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 9000).unwrap();
        file.write_all_at(&[byte[0] ^ 4], 9000).unwrap();
        file.sync_all().unwrap();
    }
}

impl BlockFiles for Digested {
    fn locate(&self, block: Block, layout: &BlockLayout) -> io::Result<BlockFile> {
        self.blocks.locate(block, layout)
    }

    fn digest(&self, chunk: &[u8]) -> u128 {
        chunk.iter().fold(7, |hash: u128, byte| (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }

    fn check(&self, block: Block, layout: &BlockLayout, digests: &[u128]) -> io::Result<()> {
        let right = &self.right[&block][..layout.bytes as usize];
        let right: Vec<u128> = right.chunks(lime_model::DIGEST_CHUNK).map(|chunk| self.digest(chunk)).collect();
        let right = self.blind.load(Ordering::Relaxed) || right == digests;
        if right { Ok(()) } else { Err(io::Error::other("a bit has flipped")) }
    }
}

const VICTIM: Block = Block::Mlp(LayerIndex(3));

/// One pass of sixty tokens.
fn pass(ring: &mut Ring) -> Result<Vec<u32>, EngineError> {
    let tokens = prompt(ring.plan.model.vocabulary);
    let engine = &mut ring.engines[0];
    let mut activation = engine.embed(&tokens[..60])?;
    engine.forward(lime_plan::SegmentIndex(0), &[BatchRows { slot: 0, start: 0, count: 60 }], &mut activation)?;
    let logits = engine.logits(&[59], &activation);
    engine.reset();
    logits.map(|logits| bits(&logits))
}

#[test]
fn no_pass_ever_computes_with_a_bit_that_flipped_since_the_last() {
    let folder = bundled("bard-2m");
    let blocks = Digested::write(&folder);
    // Through a buffer of one block, and of several that are read ahead.
    for share in [0.0, 0.4] {
        let plan = streamed(wish(&folder).plan(&folder), mlps, share);
        let mut ring = Ring::load(WeightSource::stored(&folder, blocks.clone()), plan, options());
        let right = pass(&mut ring).unwrap();
        for _ in 0..5 {
            assert!(pass(&mut ring).unwrap() == right);
        }
        blocks.flip(VICTIM, &folder);
        let mut failures = 0;
        for _ in 0..6 {
            match pass(&mut ring) {
                // What was read ahead before the flip was right.
                Ok(logits) => assert!(logits == right, "a wrong answer left the engine"),
                Err(EngineError::NotStored { block, .. }) => failures += u32::from(block == VICTIM),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(failures >= 4, "{failures} of 6 passes met the damage");
        blocks.flip(VICTIM, &folder);
        assert!(ring.engines[0].verify().unwrap().read_again == 0 && pass(&mut ring).unwrap() == right);
    }
}

#[test]
fn what_is_compared_seldom_is_found_within_so_many_uses() {
    let folder = bundled("bard-2m");
    let blocks = Digested::write(&folder);
    let options = EngineOptions { verify_reads: "8".parse().unwrap(), ..options() };
    let mut ring = Ring::load(WeightSource::stored(&folder, blocks.clone()), streaming_plan(&folder), options);
    pass(&mut ring).unwrap();
    blocks.flip(VICTIM, &folder);
    let found = (0..8).position(|_| pass(&mut ring).is_err());
    assert!(found.is_some(), "eight uses, and none was compared");
}

#[test]
fn a_bit_that_flips_in_memory_is_found_by_comparing_and_read_again() {
    let folder = bundled("bard-2m");
    let candle = Wish { arithmetic: Arithmetic::Candle, ..wish(&folder) }.plan(&folder);
    for plan in [streaming_plan(&folder), candle] {
        let blocks = Digested::write(&folder);
        let load = || Ring::load(WeightSource::stored(&folder, blocks.clone()), plan.clone(), options());
        let right = pass(&mut load()).unwrap();
        // Memory that differs from what the disk has and the digest says: loaded while nobody looked.
        let kept = Block::Attention(LayerIndex(2));
        blocks.flip(kept, &folder);
        blocks.blind.store(true, Ordering::Relaxed);
        let mut ring = load();
        blocks.blind.store(false, Ordering::Relaxed);
        assert!(pass(&mut ring).unwrap() != right);

        // The disk has the same damage: passes that meet the block fail instead of computing with it, until it can be read.
        for _ in 0..2 {
            let fault = ring.engines[0].verify().unwrap_err().to_string();
            assert!(fault.contains("attention(2)"), "{fault}");
            assert!(matches!(pass(&mut ring), Err(EngineError::NotStored { block, .. }) if block == kept));
        }
        blocks.flip(kept, &folder);
        assert_eq!(ring.engines[0].verify().unwrap().read_again, 1, "{:?}", plan.arithmetic);
        assert_eq!(ring.engines[0].verify().unwrap().read_again, 0, "{:?}", plan.arithmetic);
        assert!(pass(&mut ring).unwrap() == right);
    }
}

/// What lies in memory on candle's device is others than what a store has by now, whole as it is.
#[test]
fn a_flip_of_what_was_uploaded_is_mended_from_the_store() {
    let folder = bundled("bard-2m");
    let plan = Wish { arithmetic: Arithmetic::Candle, ..wish(&folder) }.plan(&folder);
    let blocks = Digested::write(&folder);
    let load = || Ring::load(WeightSource::stored(&folder, blocks.clone()), plan.clone(), options());
    let right = pass(&mut load()).unwrap();
    blocks.flip(VICTIM, &folder);
    blocks.blind.store(true, Ordering::Relaxed);
    let mut ring = load();
    blocks.blind.store(false, Ordering::Relaxed);
    blocks.flip(VICTIM, &folder);
    let verified = ring.engines[0].verify().unwrap();
    assert_eq!((verified.compared as usize, verified.read_again), (plan.devices[0].blocks.len(), 1));
    assert!(pass(&mut ring).unwrap() == right);
}

fn streaming_plan(folder: &ModelFolder) -> Plan {
    streamed(wish(folder).plan(folder), mlps, 0.0)
}

#[test]
fn a_disk_that_fails_now_and_then_is_not_noticed() {
    let folder = bundled("bard-2m");
    let blocks = WrittenBlocks::write(&folder);
    let expected = answer(&mut Ring::plain(&folder, wish(&folder), 1), 0);
    for short in [false, true] {
        let source = WeightSource::stored(&folder, blocks.clone()).read_by(Failing::after(20, 3, short));
        let mut ring = Ring::load(source, streaming_plan(&folder), options());
        assert!(answer(&mut ring, 0) == expected);
        assert_eq!(ring.engines[0].streaming().figures().retries, 3);
    }
}

#[test]
fn a_read_that_never_succeeds_fails_its_pass_by_name_and_the_next_pass_goes_on() {
    let folder = bundled("bard-2m");
    let blocks = WrittenBlocks::write(&folder);
    let expected = answer(&mut Ring::plain(&folder, wish(&folder), 1), 0);
    // One request at a time: the buffer holds one block of less than a request. So one block fails for good: a
    // second time, where it was read ahead in vain, and no pass hears of the first.
    let source = WeightSource::stored(&folder, blocks.clone()).read_by(Failing::after(20, 8, false));
    let mut ring = Ring::load(source, streaming_plan(&folder), options());
    let tokens = prompt(ring.plan.model.vocabulary);
    let mut failures = 0;
    for _ in 0..8 {
        let engine = &mut ring.engines[0];
        let mut activation = engine.embed(&tokens[..60]).unwrap();
        let rows = [BatchRows { slot: 0, start: 0, count: 60 }];
        if let Err(fault) = engine.forward(lime_plan::SegmentIndex(0), &rows, &mut activation) {
            let text = fault.to_string();
            assert!(text.contains("cannot read mlp") && text.contains("os error 5"), "{text}");
            failures += 1;
        }
    }
    assert!((1..=2).contains(&failures), "{failures}");
    assert!(answer(&mut ring, 0) == expected);
}

#[test]
fn what_cannot_stream_is_refused_before_memory_is_taken() {
    let folder = bundled("tiny-qwen2-bf16");
    let blocks = WrittenBlocks::write(&folder);
    let load = |source: WeightSource<'_>, plan: &Plan| {
        let loaded = Engine::load(source, plan, DeviceIndex(0), options(), &mut |_, _| {});
        loaded.err().map(|fault| fault.to_string()).unwrap_or_default()
    };
    let plan = streaming_plan(&folder);
    let text = load(WeightSource::from(&folder), &plan);
    assert!(text.contains("streams mlp") && text.contains("--store"), "{text}");

    let narrow = plan.changed(|plan| plan.devices[0].memory.prefetch -= Bytes(4096)).unwrap();
    let text = load(WeightSource::stored(&folder, blocks.clone()), &narrow);
    assert!(text.contains("buffer") && text.contains("plan again"), "{text}");

    let candle = Wish { arithmetic: Arithmetic::Candle, ..wish(&folder) }.plan(&folder);
    let text = load(WeightSource::stored(&folder, blocks), &streamed(candle, mlps, 1.0));
    assert!(text.contains("candle") && text.contains("exact"), "{text}");

    let candle = Wish { arithmetic: Arithmetic::Candle, ..wish(&folder) }.plan(&folder);
    let steps = with_steps(candle, 5, |worst| Bytes(worst.0 / 4));
    let text = load(WeightSource::from(&folder), &steps);
    assert!(text.contains("steps by which device") && text.contains("exact"), "{text}");
}

/// Memory that candle took stays: others are told that it is short, and no pass is refused for it.
#[test]
fn pressure_on_candle_is_told_and_ends_nothing() {
    let folder = bundled("bard-2m");
    let plan = Wish { arithmetic: Arithmetic::Candle, ..wish(&folder) }.plan(&folder);
    let mut ring = Ring::load(&folder, plan, options());
    let right = pass(&mut ring).unwrap();
    let taken = ring.engines[0].memory();
    ring.engines[0].press(Shortage { hard: taken.budget, soft: taken.budget }, "test").unwrap();
    let figures = ring.engines[0].residency().figures();
    assert_eq!((figures.shortage, figures.kv_room, figures.kv), (taken.budget, Bytes::ZERO, taken.kv));
    assert!(pass(&mut ring).unwrap() == right);
    assert_eq!((ring.engines[0].residency().figures().refused, ring.engines[0].memory()), (0, taken));
}

#[test]
fn a_missing_block_is_named() {
    let folder = bundled("tiny-qwen2-bf16");
    let other = WrittenBlocks::write(&bundled("tiny-qwen2-bf16"));
    struct Lacking(Arc<WrittenBlocks>);
    impl lime_model::BlockFiles for Lacking {
        fn locate(&self, block: Block, layout: &lime_model::BlockLayout) -> io::Result<BlockFile> {
            match block {
                Block::Mlp(LayerIndex(1)) => Err(io::ErrorKind::NotFound.into()),
                block => self.0.locate(block, layout),
            }
        }
    }
    let plan = streaming_plan(&folder);
    let plan = plan.changed(|plan| plan.devices[0].blocks[0].residency = Residency::Pinned).unwrap();
    let source = WeightSource::stored(&folder, Arc::new(Lacking(other)));
    let fault = Engine::load(source, &plan, DeviceIndex(0), options(), &mut |_, _| {}).err().unwrap().to_string();
    assert!(fault.contains("not in the weight store"), "{fault}");
}
