//! KV pages on another device: the same bits as with ample memory, however they go, come back, and whatever the link does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Ring, Wish, WrittenBlocks, bits, bundled, with_steps};
use lime_engine::{
    Engine, EngineError, EngineOptions, Isa, KeeperError, KeptCounters, KeptPages, PageKeeper, ResidencyFigures,
    Shortage, WeightSource,
};
use lime_model::ModelFolder;
use lime_plan::{
    BatchRows, Bytes, DeviceIndex, Dtype, KeptRows, MemoryModel, Nanos, Plan, PlanDraft, Relief, SegmentIndex,
    ServingLimits, Step,
};
use proptest::prelude::*;

const SLOTS: u32 = 3;
/// What a step of the plans here makes a pass longer, and a slow question.
const STEP: Duration = Duration::from_micros(500);
const SLOW: Duration = Duration::from_millis(8);

fn wish(folder: &ModelFolder, segments: u32) -> Wish {
    let context = 330.min(folder.config().context as u32);
    let serving =
        ServingLimits { max_context_tokens: context, max_concurrent_requests: SLOTS, prefill_chunk_tokens: 40 };
    let kv = folder.config().dtype().kv_entries();
    Wish { devices: 2, segments, head: 1, serving, kv, residual: Dtype::F32, ..Wish::golden(folder) }
}

fn options() -> EngineOptions {
    EngineOptions { threads: 1, ..EngineOptions::default() }
}

/// Steps on device 0 that begin at a share of the longest KV cache, and room for so many pages on device 1.
fn lending(plan: Plan, seed: u64, share: u64, pages: u64) -> Plan {
    let keeper = plan.devices[1].clone();
    let mut plan = with_steps(plan, seed, |worst| Bytes(worst.0 / share)).into_draft();
    let memory = MemoryModel::of(&plan);
    let layers = plan.devices[0].attentions();
    let (page, exchange) = (memory.page_bytes(layers), memory.exchange(layers));
    let room = page * pages;
    let frees = room.saturating_sub(exchange);
    plan.devices[1] = keeper;
    plan.devices[1].memory.lent = room + exchange;
    plan.devices[1].memory.budget = plan.devices[1].memory.used();
    let steps = &mut plan.devices[0].steps;
    for (index, step) in steps.iter_mut().enumerate() {
        step.time_per_token = Nanos(STEP.as_nanos() as u64 * (index as u64 + 1) * 4);
    }
    let costs = Nanos(STEP.as_nanos() as u64);
    let first = Step {
        above: steps[0].above,
        relief: Relief::HandOver { to: "d1".into(), room, costs },
        frees,
        time_per_token: costs,
    };
    for step in steps.iter_mut() {
        step.above += frees;
        step.time_per_token = step.time_per_token + costs;
    }
    steps.insert(0, first);
    plan.try_into().unwrap()
}

/// What a test does to the link and to the keeper.
#[derive(Default)]
struct Link {
    slow: AtomicBool,
    broken: AtomicBool,
    probes: AtomicU64,
}

/// The keeper in this process.
struct Near {
    pages: Arc<Mutex<KeptPages>>,
    link: Arc<Link>,
}

impl Near {
    fn reach(&self) -> Result<(), KeeperError> {
        if self.link.broken.load(Ordering::Relaxed) {
            return Err(KeeperError::Lost { keeper: "d1".into() });
        }
        if self.link.slow.load(Ordering::Relaxed) {
            thread::sleep(SLOW);
        }
        Ok(())
    }
}

impl PageKeeper for Near {
    fn name(&self) -> &str {
        "d1"
    }

    fn store(&mut self, slot: u32, page: u32, bytes: &[u8]) -> Result<(), KeeperError> {
        self.reach()?;
        self.pages.lock().unwrap().store(slot, page, bytes)
    }

    fn take_back(&mut self, slot: u32, page: u32, into: &mut [u8]) -> Result<(), KeeperError> {
        self.reach()?;
        self.pages.lock().unwrap().take_back(slot, page, |bytes| into.copy_from_slice(bytes))
    }

    fn attend(&mut self, layer: u32, rows: &[KeptRows], q: &[f32], state: &mut [f32]) -> Result<(), KeeperError> {
        self.reach()?;
        state.copy_from_slice(&self.pages.lock().unwrap().attend(layer, rows, q)?);
        Ok(())
    }

    fn release(&mut self, slot: u32) -> Result<(), KeeperError> {
        self.reach()?;
        self.pages.lock().unwrap().release(slot);
        Ok(())
    }

    fn probe(&mut self, _: usize, _: usize) -> Result<Duration, KeeperError> {
        let began = Instant::now();
        self.reach()?;
        self.link.probes.fetch_add(1, Ordering::Relaxed);
        Ok(began.elapsed())
    }
}

/// A ring whose device 0 may hand pages to device 1.
struct Lending {
    ring: Ring,
    link: Arc<Link>,
    kept: Arc<KeptCounters>,
}

impl Lending {
    fn load(folder: &ModelFolder, plan: Plan) -> Self {
        let ring = Ring::load(WeightSource::stored(folder, WrittenBlocks::write(folder)), plan, options());
        let mut this = Self { ring, link: Arc::default(), kept: Arc::default() };
        this.join();
        this
    }

    /// A keeper, as a new epoch brings one.
    fn join(&mut self) {
        // Another instruction set than the asking device's, where there is one.
        let kernels = (Isa::available().into_iter().next().unwrap(), 2);
        let (asker, keeper) = (DeviceIndex(0), DeviceIndex(1));
        let pages = KeptPages::new(&self.ring.plan, asker, keeper, kernels, Arc::clone(&self.kept)).unwrap();
        let near = Near { pages: Arc::new(Mutex::new(pages)), link: Arc::clone(&self.link) };
        self.ring.engines[0].reset();
        self.ring.engines[0].set_keeper(Some(Box::new(near)));
    }

    fn asker(&mut self) -> &mut Engine {
        &mut self.ring.engines[0]
    }

    fn figures(&self) -> ResidencyFigures {
        self.ring.engines[0].residency().figures()
    }

    /// Nobody takes more than is planned, and both sides count the same pages.
    fn check(&self) {
        let (taken, figures) = (self.ring.engines[0].memory(), self.figures());
        let allowed = taken.budget.saturating_sub(figures.shortage);
        assert!(taken.used() <= allowed || figures.level == figures.steps, "{taken:?} {figures:?}");
        let kept = self.kept.figures();
        assert!(kept.bytes <= self.ring.plan.devices[1].memory.lent, "{kept:?}");
        assert!(figures.remote <= figures.remote_room);
        let page = MemoryModel::of(&self.ring.plan).page_bytes(self.ring.plan.devices[0].attentions());
        assert_eq!(figures.remote, page * kept.pages, "{figures:?} {kept:?}");
    }
}

fn token(slot: u32, position: u32, vocabulary: u32) -> u32 {
    3 + (slot * 7919 + position).wrapping_mul(2_654_435_761) % (vocabulary - 3)
}

/// What happens between two passes, and the pass.
#[derive(Clone, Debug)]
enum Act {
    /// Rows for each of these slots, in one pass.
    Grow(Vec<(u32, u32)>),
    /// The slot begins anew, without being released.
    Anew(u32, u32),
    /// The slot is cut back by so many positions, and goes on with other rows.
    Cut(u32, u32, u32),
    Release(u32),
    /// Thousandths of the device's pinned weights that others need.
    Press(u64),
    Slow(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let grow = prop_oneof![
        proptest::collection::vec((0..SLOTS, 1_u32..14), 1..=SLOTS as usize),
        (0..SLOTS, 20_u32..40).prop_map(|one| vec![one]),
        (0..SLOTS).prop_map(|slot| vec![(slot, 1)]),
    ];
    let act = prop_oneof![
        12 => grow.prop_map(Act::Grow),
        1 => (0..SLOTS, 1_u32..40).prop_map(|(slot, count)| Act::Anew(slot, count)),
        2 => (0..SLOTS, prop_oneof![1_u32..8, 1_u32..200], 1_u32..12).prop_map(|(slot, back, count)| Act::Cut(slot, back, count)),
        1 => (0..SLOTS).prop_map(Act::Release),
        1 => (0_u64..1000).prop_map(Act::Press),
        1 => Just(Act::Press(0)),
        1 => any::<bool>().prop_map(Act::Slow),
    ];
    proptest::collection::vec(act, 40..120)
}

/// Runs `acts` on a ring that hands pages over and on one with ample memory; every pass must give the same bits.
fn compare(lending: &mut Lending, plain: &mut Ring, acts: &[Act]) -> Result<(), TestCaseError> {
    let (vocabulary, context) = (plain.plan.model.vocabulary, plain.plan.serving.max_context_tokens);
    let mut lengths = [0_u32; SLOTS as usize];
    for act in acts {
        let mut rows: Vec<BatchRows> = Vec::new();
        match act {
            Act::Grow(parts) => {
                for &(slot, count) in parts {
                    let count = count.min(context - lengths[slot as usize]);
                    if count > 0 && rows.iter().all(|part| part.slot != slot) {
                        rows.push(BatchRows { slot, start: lengths[slot as usize], count });
                    }
                }
            }
            Act::Anew(slot, count) => rows.push(BatchRows { slot: *slot, start: 0, count: *count }),
            Act::Cut(slot, back, count) => {
                let start = lengths[*slot as usize].saturating_sub(*back);
                rows.push(BatchRows { slot: *slot, start, count: (*count).min(context - start) });
            }
            Act::Release(slot) => {
                lengths[*slot as usize] = 0;
                plain.engines.iter_mut().chain(&mut lending.ring.engines).for_each(|engine| engine.release(*slot));
            }
            Act::Press(share) => {
                let soft = Bytes(lending.asker().device().memory.pinned.0 * share / 1000);
                lending.asker().press(Shortage { hard: Bytes::ZERO, soft }, "test").unwrap();
            }
            Act::Slow(slow) => lending.link.slow.store(*slow, Ordering::Relaxed),
        }
        if !rows.is_empty() {
            let positions =
                rows.iter().flat_map(|part| (part.start..part.start + part.count).map(|at| (part.slot, at)));
            let tokens: Vec<u32> = positions.map(|(slot, at)| token(slot, at, vocabulary)).collect();
            let wanted: Vec<usize> = (0..tokens.len()).collect();
            let expected = plain.pass(&rows, &tokens, &wanted);
            prop_assert_eq!(bits(&lending.ring.pass(&rows, &tokens, &wanted)), bits(&expected));
            rows.iter().for_each(|part| lengths[part.slot as usize] = part.start + part.count);
        }
        lending.check();
    }
    Ok(())
}

#[test]
fn pages_that_go_and_come_at_any_pass_change_no_bit() {
    let sums = std::cell::Cell::new([0_u64; 4]);
    for (name, segments, share, pages) in [
        ("bard-2m", 1, 3, 12),
        ("bard-2m", 2, 2, 5),
        ("tiny-qwen3-bf16", 1, 3, 10),
        ("tiny-llama-linear-f32", 1, 2, 10),
        ("gguf-q8_0", 1, 3, 10),
        ("gguf-mixed", 1, 2, 8),
    ] {
        let folder = bundled(name);
        let wish = wish(&folder, segments);
        let plan = lending(wish.plan(&folder), u64::from(segments), share, pages);
        let mut runner = proptest::test_runner::TestRunner::new_with_rng(
            ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() },
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let ran = runner.run(&acts(), |acts| {
            let mut lending = Lending::load(&folder, plan.clone());
            let mut plain = Ring::plain(&folder, wish, 1);
            compare(&mut lending, &mut plain, &acts)?;
            let figures = lending.figures();
            let more = [figures.handed_over, figures.brought_back, figures.taken, figures.undone];
            let before = sums.get();
            sums.set(std::array::from_fn(|at| before[at] + more[at]));
            Ok(())
        });
        if let Err(fault) = ran {
            panic!("{name} {segments} segments, {pages} pages: {fault}");
        }
    }
    let [handed_over, brought_back, taken, undone] = sums.get();
    println!("{handed_over} pages handed over, {brought_back} brought back; {taken} steps taken, {undone} undone");
    assert!(
        handed_over > 25 && brought_back > 4 && taken > 100 && undone > 30,
        "the draw is too easy: {:?}",
        sums.get()
    );
}

/// A ring of bard-2m whose device 0 has room for half of the longest requests.
fn narrow() -> (Lending, Ring) {
    let folder = bundled("bard-2m");
    let wish = wish(&folder, 1);
    let lending = Lending::load(&folder, lending(wish.plan(&folder), 3, 2, 12));
    (lending, Ring::plain(&folder, wish, 1))
}

/// Feeds both rings the same tokens and compares.
fn feed(lending: &mut Lending, plain: &mut Ring, slot: u32, from: u32, to: u32, chunk: usize) {
    let vocabulary = plain.plan.model.vocabulary;
    let tokens: Vec<u32> = (from..to).map(|at| token(slot, at, vocabulary)).collect();
    let expected = bits(&plain.feed(slot, from, &tokens, chunk));
    assert_eq!(bits(&lending.ring.feed(slot, from, &tokens, chunk)), expected, "slot {slot}, {from} to {to}");
    lending.check();
}

#[test]
fn a_growing_cache_goes_elsewhere_and_short_answers_need_nobody() {
    let (mut lending, mut plain) = narrow();
    for slot in 0..SLOTS {
        feed(&mut lending, &mut plain, slot, 0, 250, 40);
    }
    let full = lending.figures();
    assert!(full.handed_over > 0 && full.level == 0, "blocks stay while pages go: {full:?}");
    assert_eq!(lending.link.probes.load(Ordering::Relaxed), 1, "the link is probed before the first page goes");
    assert!(lending.kept.figures().questions > 0);
    for slot in 1..SLOTS {
        lending.ring.engines.iter_mut().for_each(|engine| engine.release(slot));
    }
    feed(&mut lending, &mut plain, 0, 250, 270, 1);
    let calm = lending.figures();
    assert_eq!((calm.remote, lending.kept.figures().bytes), (Bytes::ZERO, Bytes::ZERO), "{calm:?}");
    assert!(calm.brought_back > 0 || full.remote > Bytes::ZERO);
}

#[test]
fn a_slow_link_makes_blocks_stream_and_a_fast_one_brings_them_back() {
    let (mut lending, mut plain) = narrow();
    for slot in 0..SLOTS {
        feed(&mut lending, &mut plain, slot, 0, 200, 40);
    }
    let fast = lending.figures();
    assert!(fast.remote > Bytes::ZERO && fast.level == 0, "{fast:?}");

    let slow = |lending: &Lending, slow| lending.link.slow.store(slow, Ordering::Relaxed);
    slow(&lending, true);
    feed(&mut lending, &mut plain, 0, 200, 202, 1);
    assert_eq!(lending.figures().level, 0, "a pass that is held up moves nothing");
    feed(&mut lending, &mut plain, 0, 202, 230, 1);
    let dear = lending.figures();
    assert!(dear.level > 0 && dear.remote == Bytes::ZERO, "{dear:?}");
    assert_eq!(dear.brought_back, dear.handed_over);
    assert!(dear.remote_costs > fast.remote_costs, "{dear:?}");

    slow(&lending, false);
    feed(&mut lending, &mut plain, 1, 200, 300, 1);
    let again = lending.figures();
    assert!(again.level == 0 && again.remote > Bytes::ZERO, "{again:?}");
    assert!(again.handed_over < 20 && again.taken < 20, "nothing goes to and fro: {again:?}");
}

#[test]
fn a_link_that_is_slow_from_the_beginning_carries_no_page() {
    let (mut lending, mut plain) = narrow();
    lending.link.slow.store(true, Ordering::Relaxed);
    for slot in 0..SLOTS {
        feed(&mut lending, &mut plain, slot, 0, 200, 40);
    }
    let figures = lending.figures();
    assert!(figures.level > 0 && figures.handed_over == 0, "{figures:?}");
}

#[test]
fn a_lost_keeper_fails_the_pass_and_a_new_one_goes_on() {
    let (mut lending, mut plain) = narrow();
    for slot in 0..SLOTS {
        feed(&mut lending, &mut plain, slot, 0, 200, 40);
    }
    lending.link.broken.store(true, Ordering::Relaxed);
    let engine = lending.asker();
    let mut activation = engine.embed(&[5]).unwrap();
    let rows = [BatchRows { slot: 0, start: 200, count: 1 }];
    let lost = engine.forward(SegmentIndex(0), &rows, &mut activation).unwrap_err();
    assert!(matches!(lost, EngineError::Keeper(_)) && lost.to_string().contains("d1"), "{lost}");
    // The gateway prefills again, at another epoch.
    lending.link.broken.store(false, Ordering::Relaxed);
    lending.join();
    lending.ring.engines[1].reset();
    plain.engines.iter_mut().for_each(Engine::reset);
    for slot in 0..SLOTS {
        feed(&mut lending, &mut plain, slot, 0, 220, 40);
    }
    assert!(lending.figures().remote > Bytes::ZERO);
}

#[test]
fn a_keeper_refuses_what_the_plan_does_not_say() {
    let folder = bundled("bard-2m");
    let plan = lending(wish(&folder, 1).plan(&folder), 3, 3, 3);
    let (asker, keeper) = (DeviceIndex(0), DeviceIndex(1));
    let new = |asker, keeper| KeptPages::new(&plan, asker, keeper, (Isa::detect(), 1), Arc::default());
    assert!(new(keeper, asker).is_err() && new(asker, DeviceIndex(7)).is_err() && new(DeviceIndex(7), keeper).is_err());
    let mut pages = new(asker, keeper).unwrap();
    let page = vec![0; pages.page_bytes()];
    let queries = vec![0.0; pages.query_bytes(1) / 4];
    let rows = |slot, pages, count| [KeptRows { slot, pages, count }];
    let refuse = |refused: Result<(), KeeperError>, text: &str| {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(text), "{refused}");
    };
    refuse(pages.store(0, 0, &page[1..]), "they have");
    refuse(pages.store(SLOTS, 0, &page), "the plan has 3");
    refuse(pages.store(0, 1, &page), "page 0 is next");
    pages.store(0, 0, &page).unwrap();
    pages.store(1, 0, &page).unwrap();
    pages.store(1, 1, &page).unwrap();
    refuse(pages.store(1, 2, &page), "all room that the plan lends is taken");
    refuse(pages.attend(0, &rows(0, 2, 1), &queries).map(drop), "1 are kept");
    refuse(pages.attend(0, &rows(2, 0, 1), &queries).map(drop), "0 are kept");
    refuse(pages.attend(99, &rows(0, 1, 1), &queries).map(drop), "in layer 99");
    refuse(pages.attend(0, &rows(0, 1, u32::MAX), &queries).map(drop), "rows in layer");
    refuse(pages.attend(0, &rows(0, 1, 2), &queries).map(drop), "queries of 2 rows");
    refuse(pages.take_back(0, 1, |_| ()), "not the last");
    pages.attend(0, &rows(0, 1, 1), &queries).unwrap();
    pages.release(1);
    pages.store(0, 1, &page).unwrap();
    pages.take_back(0, 1, |bytes| assert_eq!(bytes.len(), page.len())).unwrap();
}

#[test]
fn plans_that_count_on_room_twice_are_refused() {
    let folder = bundled("bard-2m");
    let plan = lending(wish(&folder, 1).plan(&folder), 3, 3, 6);
    let refuse = |change: &dyn Fn(&mut PlanDraft), text: &str| {
        let fault = plan.changed(change).unwrap_err().to_string();
        assert!(fault.contains(text), "{fault}");
    };
    fn over(plan: &mut PlanDraft) -> (&mut String, &mut Bytes) {
        match &mut plan.devices[0].steps[0].relief {
            Relief::HandOver { to, room, .. } => (to, room),
            Relief::Stream(_) => unreachable!("the first step hands pages over"),
        }
    }
    refuse(&|plan| plan.devices[1].memory.lent = Bytes(plan.devices[1].memory.lent.0 - 1), "others count on");
    refuse(&|plan| plan.devices[1].memory.budget = Bytes(plan.devices[1].memory.budget.0 - 1), "of a budget of");
    refuse(&|plan| *over(plan).0 = "d0".into(), "others count on");
    refuse(&|plan| *over(plan).0 = "d7".into(), "no other device");
    refuse(&|plan| *over(plan).1 = Bytes(1), "of pages over");
    refuse(&|plan| *over(plan).1 = Bytes(u64::MAX), "of pages over");
    refuse(&|plan| plan.devices[0].steps.swap(0, 1), "above");
    refuse(
        &|plan| {
            let step = plan.devices[0].steps[0].clone();
            plan.devices[0].steps[1] = Step { above: plan.devices[0].steps[1].above, ..step };
            plan.devices[1].memory.lent = Bytes::gib(1);
            plan.devices[1].memory.budget = Bytes::gib(2);
        },
        "after another",
    );
    refuse(
        &|plan| {
            let step = plan.devices[0].steps[0].clone();
            let relief = match step.relief {
                Relief::HandOver { room, costs, .. } => Relief::HandOver { to: "d0".into(), room, costs },
                stream @ Relief::Stream(_) => stream,
            };
            plan.devices[0].memory.lent = Bytes::gib(1);
            plan.devices[0].memory.budget += Bytes::gib(1);
            plan.devices[1].steps.push(Step { relief, ..step });
        },
        "hands pages over itself",
    );
}
