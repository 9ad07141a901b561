//! Sequences that begin behind kept pages: the same bits as from their start, however the plan is cut and whatever happens to memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use common::{Ring, Wish, WrittenBlocks, bits, bundled, streamed, with_steps};
use lime_engine::{EngineError, EngineOptions, PageDisk, Shortage, WeightSource};
use lime_model::ModelFolder;
use lime_plan::{Arithmetic, BatchRows, Block, Bytes, Dtype, KV_PAGE_TOKENS, PageName, Plan, ServingLimits};
use proptest::prelude::*;

const SLOTS: u32 = 3;
const CONTEXT: u32 = 200;
/// Pages that sequences of a kind have in common.
const COMMON: u32 = 2;

fn wish(folder: &ModelFolder) -> Wish {
    let serving =
        ServingLimits { max_context_tokens: CONTEXT, max_concurrent_requests: SLOTS, prefill_chunk_tokens: CONTEXT };
    Wish { serving, kv: folder.config().dtype(), residual: Dtype::F32, ..Wish::golden(folder) }
}

#[derive(Clone, Debug)]
enum Act {
    /// Rows for a slot.
    Grow(u32, u32),
    /// A sequence of a kind, of which the first page or both are taken, where they are kept.
    Begin(u32, u32, u32),
    /// Thousandths of the device's pinned weights that others need.
    Press(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..SLOTS, 30_u32..120).prop_map(|(slot, count)| Act::Grow(slot, count)),
        4 => (0..SLOTS, 0_u32..2, 0..=COMMON).prop_map(|(slot, kind, pages)| Act::Begin(slot, kind, pages)),
        1 => (0_u64..1000).prop_map(Act::Press),
        1 => Just(Act::Press(0)),
    ];
    proptest::collection::vec(act, 20..40)
}

#[derive(Clone, Copy, Default)]
struct Sequence {
    kind: u32,
    number: u32,
    length: u32,
}

impl Sequence {
    fn tokens(self, from: u32, count: u32, vocabulary: u32) -> Vec<u32> {
        let own = |at: u32| if at < COMMON * KV_PAGE_TOKENS { self.kind } else { 100 + self.number };
        let token = |at: u32| 3 + (own(at) * 7919 + at).wrapping_mul(2_654_435_761) % (vocabulary - 3);
        (from..from + count).map(token).collect()
    }
}

/// A ring that keeps pages, beside one that computes everything.
struct Rings {
    keeping: Ring,
    plain: Ring,
    sequences: [Sequence; SLOTS as usize],
    /// The numbers of what is kept, by kind and page.
    known: BTreeMap<(u32, u32), u64>,
    given: u64,
    begun_behind: u32,
    forgotten: u32,
}

impl Rings {
    fn new(keeping: Ring, plain: Ring) -> Self {
        let sequences = [Sequence::default(); SLOTS as usize];
        Self { keeping, plain, sequences, known: BTreeMap::new(), given: 0, begun_behind: 0, forgotten: 0 }
    }

    fn run(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match *act {
            Act::Grow(slot, count) => self.grow(slot, count)?,
            Act::Begin(slot, kind, pages) => self.begin(slot, kind, pages),
            Act::Press(share) => {
                for engine in &mut self.keeping.engines {
                    let soft = Bytes(engine.device().memory.pinned.0 * share / 1000);
                    engine.press(Shortage { hard: Bytes::ZERO, soft }, "test").unwrap();
                }
            }
        }
        self.hear();
        for engine in &self.keeping.engines {
            let (taken, figures) = (engine.memory(), engine.residency().figures());
            let allowed = taken.budget.saturating_sub(figures.shortage);
            prop_assert!(taken.used() <= allowed || figures.level == figures.steps, "{taken:?} {figures:?}");
        }
        Ok(())
    }

    fn grow(&mut self, slot: u32, count: u32) -> Result<(), TestCaseError> {
        let sequence = self.sequences[slot as usize];
        let count = count.min(CONTEXT - sequence.length);
        if count == 0 {
            return Ok(());
        }
        let tokens = sequence.tokens(sequence.length, count, self.plain.plan.model.vocabulary);
        let rows = [BatchRows { slot, start: sequence.length, count }];
        let wanted = [count as usize - 1];
        let expected = self.plain.pass(&rows, &tokens, &wanted);
        prop_assert_eq!(bits(&self.keeping.pass(&rows, &tokens, &wanted)), bits(&expected));
        let length = sequence.length + count;
        self.sequences[slot as usize].length = length;
        for page in 0..COMMON.min(length / KV_PAGE_TOKENS) {
            if self.known.contains_key(&(sequence.kind, page)) {
                continue;
            }
            self.given += 1;
            self.known.insert((sequence.kind, page), self.given);
            self.keeping.engines.iter_mut().for_each(|engine| engine.keep(slot, page, &[self.given], &[]));
        }
        Ok(())
    }

    fn begin(&mut self, slot: u32, kind: u32, pages: u32) {
        self.given += 1;
        let known = (0..pages).map_while(|page| self.known.get(&(kind, page)).copied());
        let ids: Vec<u64> = known.collect();
        let length = ids.len() as u32 * KV_PAGE_TOKENS;
        let sequence = Sequence { kind, number: self.given as u32, length };
        self.sequences[slot as usize] = sequence;
        self.plain.engines.iter_mut().for_each(|engine| engine.release(slot));
        if ids.is_empty() {
            self.keeping.engines.iter_mut().for_each(|engine| engine.release(slot));
            return;
        }
        self.begun_behind += 1;
        self.keeping.engines.iter_mut().for_each(|engine| engine.begin_behind(slot, &ids).unwrap());
        let tokens = sequence.tokens(0, length, self.plain.plan.model.vocabulary);
        self.plain.feed(slot, 0, &tokens, 50);
    }

    /// What one device has forgotten, all do.
    fn hear(&mut self) {
        let engines = &mut self.keeping.engines;
        let gone: Vec<u64> = engines.iter_mut().flat_map(|engine| engine.take_forgotten()).collect();
        self.forgotten += gone.len() as u32;
        engines.iter_mut().for_each(|engine| engine.forget(&gone));
        self.known.retain(|_, id| !gone.contains(id));
    }
}

fn compare(keeping: Plan, plain: Plan, source: &WeightSource<'_>, cases: u32) -> (u32, u32) {
    let options = || EngineOptions { threads: 1, ..EngineOptions::default() };
    let sums = std::cell::Cell::new((0, 0));
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let ran = runner.run(&acts(), |acts| {
        let ring = |plan: &Plan| Ring::load(source.clone(), plan.clone(), options());
        let mut rings = Rings::new(ring(&keeping), ring(&plain));
        acts.iter().try_for_each(|act| rings.run(act))?;
        sums.set((sums.get().0 + rings.begun_behind, sums.get().1 + rings.forgotten));
        rings.keeping.engines.iter_mut().for_each(lime_engine::Engine::reset);
        for engine in &rings.keeping.engines {
            prop_assert_eq!(engine.memory().kv, Bytes::ZERO, "no page is lost");
        }
        Ok(())
    });
    ran.unwrap_or_else(|fault| panic!("{fault}"));
    sums.get()
}

#[test]
fn behind_a_prefix_all_logits_are_those_from_the_start() {
    for (name, devices, segments, head, cut_layers) in [
        ("bard-2m", 1, 1, 0, false),
        ("bard-2m", 5, 1, 0, true),
        ("tiny-qwen3-bf16", 2, 1, 0, false),
        ("gguf-q4_k", 1, 2, 0, false),
    ] {
        let folder = bundled(name);
        let blocks = WrittenBlocks::write(&folder);
        let source = WeightSource::stored(&folder, blocks);
        let wish = Wish { devices, segments, head, cut_layers, ..wish(&folder) };
        let plan = wish.plan(&folder);
        // Of a device that keeps everything only others' need of memory takes kept pages.
        let (behind, _) = compare(plan.clone(), plan.clone(), &source, 2);
        assert!(behind > 2, "{name}: {behind} began behind pages");
        // Weights that stream, and a KV cache that has to make room: kept pages go first.
        let streams = |block: Block| matches!(block, Block::Mlp(layer) if layer.0 % 2 == 0);
        let tight = with_steps(streamed(wish.plan(&folder), streams, 0.3), 7, |worst| Bytes(worst.0 / 2));
        let (behind, forgotten) = compare(tight, plan, &source, 2);
        assert!(forgotten > 1, "{name}: {behind} began behind pages, {forgotten} were forgotten");
    }
}

/// A disk in memory, that takes a page now and then, and flips a bit of each third that it gives.
#[derive(Clone, Default)]
struct Disk {
    pages: Arc<Mutex<HashMap<PageName, Vec<u8>>>>,
    asked: usize,
    damaged: bool,
}

impl PageDisk for Disk {
    fn has(&self, name: &PageName) -> bool {
        self.pages.lock().unwrap().contains_key(name)
    }

    fn write(&mut self, name: PageName, _: Option<PageName>, page: &[u8]) -> bool {
        self.asked += 1;
        let takes = self.asked.is_multiple_of(2);
        if takes {
            self.pages.lock().unwrap().insert(name, page.to_vec());
        }
        takes
    }

    fn read(&mut self, name: &PageName, page: &mut [u8]) -> bool {
        self.asked += 1;
        let pages = self.pages.lock().unwrap();
        let found = pages.get(name).filter(|_| !(self.damaged && self.asked.is_multiple_of(3)));
        // One that is not whole has been read in part.
        page.fill(0xff);
        found.is_some_and(|found| {
            page.copy_from_slice(found);
            true
        })
    }

    fn used(&mut self, _: &[PageName]) {}

    fn copies(&self) -> Bytes {
        Bytes::ZERO
    }

    fn settle(&mut self) {}

    fn names(&self) -> Vec<PageName> {
        self.pages.lock().unwrap().keys().copied().collect()
    }

    fn room(&self) -> usize {
        100
    }

    fn clear(&mut self) {
        self.pages.lock().unwrap().clear();
    }
}

fn name(number: u8) -> PageName {
    PageName::try_from([number; 32].as_slice()).unwrap()
}

#[test]
fn pages_with_a_name_outlive_their_epoch_and_come_back_from_the_disk_bit_for_bit() {
    let folder = bundled("tiny-qwen3-bf16");
    let plan = Wish { devices: 2, ..wish(&folder) }.plan(&folder);
    let ring = || Ring::load(&folder, plan.clone(), EngineOptions::default());
    let (mut keeping, disks) = (ring(), [Disk::default(), Disk::default()]);
    for (engine, disk) in keeping.engines.iter_mut().zip(&disks) {
        engine.set_page_disk(Some(Box::new(disk.clone())));
    }
    let tokens = Sequence::default().tokens(0, 190, plan.model.vocabulary);
    let expected = bits(&keeping.feed(0, 0, &tokens, 190));
    for engine in &mut keeping.engines {
        engine.keep(0, 0, &[1, 2], &[name(1), name(2)]);
        while engine.spill() {}
        // The epoch ends; the pages stay, and are found again under other numbers.
        engine.reset();
        assert!(matches!(engine.begin_behind(0, &[1]), Err(EngineError::NotKept { .. })));
        let mut names = engine.named_pages().0;
        names.sort();
        assert_eq!((names, engine.named_pages().1), (vec![name(1), name(2)], 100));
        engine.restore(&[(7, name(1)), (8, name(2)), (9, name(3))]);
        assert_eq!(engine.take_forgotten(), [9]);
        engine.begin_behind(1, &[7, 8]).unwrap();
    }
    let last = |ring: &mut Ring, slot| bits(&ring.feed(slot, 128, &tokens[128..], 190));
    let tail = last(&mut keeping, 1);
    assert_eq!(tail[..], expected[expected.len() - tail.len()..]);
    // Another process, of which the disk has the pages; once one of them is damaged, and that alone is missed.
    for damaged in [false, true] {
        let mut fresh = ring();
        for (engine, disk) in fresh.engines.iter_mut().zip(&disks) {
            engine.set_page_disk(Some(Box::new(Disk { asked: 0, damaged, ..disk.clone() })));
            let before = engine.memory().kv;
            engine.restore(&[(1, name(1)), (2, name(2))]);
            if damaged {
                engine.restore(&[(3, name(2))]);
                assert_eq!(engine.take_forgotten(), [3], "one that has a number has no second");
                engine.forget(&[1]);
                engine.restore(&[(1, name(1))]);
                assert_eq!(engine.take_forgotten(), [1], "it is not what was written");
                engine.forget(&[2]);
                assert_eq!(engine.memory().kv, before, "no page is lost");
            } else {
                engine.begin_behind(0, &[1, 2]).unwrap();
            }
        }
        if !damaged {
            assert_eq!(last(&mut fresh, 0), tail);
        }
    }
    // Weights that may have been damaged: nothing is believed any more.
    for engine in &mut keeping.engines {
        engine.forget_named();
        engine.reset();
        assert_eq!((engine.named_pages().0, engine.memory().kv), (vec![], Bytes::ZERO));
    }
}

#[test]
fn what_is_left_of_epochs_before_gives_way() {
    let folder = bundled("tiny-llama3-bf16");
    let mut ring = Ring::plain(&folder, wish(&folder), 1);
    let tokens = Sequence::default().tokens(0, CONTEXT, ring.plan.model.vocabulary);
    let expected = ring.feed(0, 0, &tokens, 200);
    ring.engines[0].keep(0, 0, &[1, 2, 3], &[name(1), name(2), name(3)]);
    ring.engines[0].reset();
    for slot in 0..SLOTS {
        assert_eq!(bits(&ring.feed(slot, 0, &tokens, 200)), bits(&expected));
    }
    assert_eq!(ring.engines[0].take_forgotten(), Vec::<u64>::new(), "they have no numbers that could be told");
    assert_eq!(ring.engines[0].named_pages().0, []);
}

#[test]
fn what_a_backend_cannot_keep_it_says() {
    let folder = bundled("tiny-llama3-bf16");
    let plan = Wish { arithmetic: Arithmetic::Candle, ..wish(&folder) }.plan(&folder);
    let mut ring = Ring::load(&folder, plan, EngineOptions::default());
    let tokens = Sequence::default().tokens(0, 70, ring.plan.model.vocabulary);
    ring.feed(0, 0, &tokens, 70);
    let engine = &mut ring.engines[0];
    engine.keep(0, 0, &[4], &[]);
    assert_eq!(engine.take_forgotten(), [4]);
    let refused = engine.begin_behind(1, &[4]);
    assert!(matches!(refused, Err(EngineError::NotKept { slot: 1, page: 4 })), "{refused:?}");
}

#[test]
fn kept_pages_give_way_to_sequences_at_their_longest() {
    let folder = bundled("tiny-llama3-bf16");
    let mut ring = Ring::plain(&folder, wish(&folder), 1);
    let tokens = Sequence::default().tokens(0, CONTEXT, ring.plan.model.vocabulary);
    ring.feed(0, 0, &tokens, 200);
    ring.engines[0].keep(0, 0, &[1, 2, 3], &[]);
    ring.engines[0].release(0);
    let expected = ring.feed(1, 0, &tokens, 200);
    assert!(ring.engines[0].take_forgotten().is_empty(), "the third slot has room for them");
    assert_eq!(bits(&ring.feed(0, 0, &tokens, 200)), bits(&expected));
    assert_eq!(bits(&ring.feed(2, 0, &tokens, 200)), bits(&expected));
    assert_eq!(ring.engines[0].take_forgotten(), [3, 2, 1]);
    assert_eq!(ring.engines[0].memory().kv, ring.plan.devices[0].memory.kv);
}
