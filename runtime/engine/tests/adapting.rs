//! Blocks that leave memory and come back while passes run: the same bits as with ample memory, and never more than the budget.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Ring, Wish, WrittenBlocks, bits, bundled, streamed, with_steps};
use lime_engine::{EngineError, EngineOptions, Shortage, WeightSource};
use lime_model::ModelFolder;
use lime_plan::{BatchRows, Block, Bytes, Dtype, Plan, PlanDraft, SegmentIndex, ServingLimits};
use proptest::prelude::*;

const SLOTS: u32 = 3;
const CONTEXT: u32 = 200;

fn wish(folder: &ModelFolder) -> Wish {
    let serving =
        ServingLimits { max_context_tokens: CONTEXT, max_concurrent_requests: SLOTS, prefill_chunk_tokens: 70 };
    Wish { serving, kv: folder.config().dtype(), residual: Dtype::F32, ..Wish::golden(folder) }
}

fn options() -> EngineOptions {
    EngineOptions { threads: 1, ..EngineOptions::default() }
}

fn token(slot: u32, position: u32, vocabulary: u32) -> u32 {
    3 + (slot * 7919 + position).wrapping_mul(2_654_435_761) % (vocabulary - 3)
}

/// What happens between two passes, and the pass.
#[derive(Clone, Debug)]
enum Act {
    /// Rows for a slot.
    Grow(u32, u32),
    Release(u32),
    /// Thousandths of the device's pinned weights that others need, and whether a hard limit says so.
    Press(u64, bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..SLOTS, 1_u32..40).prop_map(|(slot, count)| Act::Grow(slot, count)),
        2 => (0..SLOTS).prop_map(Act::Release),
        2 => (0_u64..1000, any::<bool>()).prop_map(|(share, hard)| Act::Press(share, hard)),
        2 => Just(Act::Press(0, false)),
    ];
    proptest::collection::vec(act, 10..60)
}

/// Runs `acts` on a ring with steps and on one without; every pass must give the same bits.
fn compare(adapting: &mut Ring, plain: &mut Ring, acts: &[Act]) -> Result<(u64, u64), TestCaseError> {
    let vocabulary = plain.plan.model.vocabulary;
    let mut lengths = [0_u32; SLOTS as usize];
    for act in acts {
        match *act {
            Act::Grow(slot, count) => {
                let length = &mut lengths[slot as usize];
                let count = count.min(CONTEXT - *length);
                if count == 0 {
                    continue;
                }
                let tokens: Vec<u32> = (*length..*length + count).map(|at| token(slot, at, vocabulary)).collect();
                let rows = [BatchRows { slot, start: *length, count }];
                let expected = plain.pass(&rows, &tokens, &[count as usize - 1]);
                // Without a hard limit no pass may be refused.
                for engine in &mut adapting.engines {
                    let soft = Shortage { hard: Bytes::ZERO, soft: engine.residency().figures().shortage };
                    engine.press(soft, "test").unwrap();
                }
                prop_assert_eq!(bits(&adapting.pass(&rows, &tokens, &[count as usize - 1])), bits(&expected));
                *length += count;
            }
            Act::Release(slot) => {
                lengths[slot as usize] = 0;
                plain.engines.iter_mut().chain(&mut adapting.engines).for_each(|engine| engine.release(slot));
            }
            Act::Press(share, is_hard) => {
                for engine in &mut adapting.engines {
                    let bytes = Bytes(engine.device().memory.pinned.0 * share / 1000);
                    let hard = if is_hard { bytes } else { Bytes::ZERO };
                    engine.press(Shortage { hard, soft: bytes }, "test").unwrap();
                }
            }
        }
        for engine in &adapting.engines {
            let (taken, figures) = (engine.memory(), engine.residency().figures());
            // What is taken stays below budget and shortage as long as there are steps to take.
            let allowed = taken.budget.saturating_sub(figures.shortage);
            prop_assert!(taken.used() <= allowed || figures.level == figures.steps, "{taken:?} {figures:?}");
        }
    }
    let sum = |of: fn(lime_engine::ResidencyFigures) -> u64| {
        adapting.engines.iter().map(|engine| of(engine.residency().figures())).sum()
    };
    Ok((sum(|figures| figures.taken), sum(|figures| figures.undone)))
}

fn mlps(block: Block) -> bool {
    matches!(block, Block::Mlp(layer) if layer.0 % 2 == 0)
}

fn none(_: Block) -> bool {
    false
}

#[test]
fn steps_taken_and_undone_at_any_pass_change_no_bit() {
    let sums = std::cell::Cell::new((0, 0));
    for (name, devices, segments, head, cut_layers) in [
        ("bard-2m", 1, 1, 0, false),
        ("bard-2m", 2, 2, 1, false),
        ("bard-2m", 5, 1, 0, true),
        ("tiny-qwen3-bf16", 2, 1, 0, false),
        ("tiny-llama-linear-f32", 1, 2, 0, false),
        ("gguf-q8_0", 2, 1, 1, false),
        ("gguf-q4_k", 1, 2, 0, false),
        ("gguf-mixed", 1, 1, 0, true),
    ] {
        let folder = bundled(name);
        let blocks = WrittenBlocks::write(&folder);
        let source = WeightSource::stored(&folder, blocks);
        let wish = Wish { devices, segments, head, cut_layers, ..wish(&folder) };
        for (streams, share, kv) in [(none as fn(Block) -> bool, 0.0, 2), (mlps, 0.0, 3), (mlps, 0.7, 1)] {
            let plan = streamed(wish.plan(&folder), streams, share);
            let plan = with_steps(plan, u64::from(devices * 31 + segments), |worst| Bytes(worst.0 / kv));
            let mut runner = proptest::test_runner::TestRunner::new_with_rng(
                ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() },
                proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
            );
            let ran = runner.run(&acts(), |acts| {
                let mut adapting = Ring::load(source.clone(), plan.clone(), options());
                let mut plain = Ring::plain(&folder, wish, 1);
                let (up, down) = compare(&mut adapting, &mut plain, &acts)?;
                sums.set((sums.get().0 + up, sums.get().1 + down));
                Ok(())
            });
            if let Err(fault) = ran {
                panic!("{name} {devices} devices {segments} segments, {share} {kv}: {fault}");
            }
        }
    }
    let (taken, undone) = sums.get();
    println!("{taken} steps taken, {undone} undone");
    assert!(taken > 100 && undone > 30, "{taken} taken, {undone} undone: the draw is too easy");
}

/// One device of bard-2m whose KV cache has room for a quarter of the longest requests before the first step.
fn narrow() -> (ModelFolder, Plan) {
    let folder = bundled("bard-2m");
    let plan = with_steps(wish(&folder).plan(&folder), 5, |worst| Bytes(worst.0 / 4));
    (folder, plan)
}

fn fill(ring: &mut Ring, slot: u32, from: u32, to: u32) {
    let vocabulary = ring.plan.model.vocabulary;
    let tokens: Vec<u32> = (from..to).map(|at| token(slot, at, vocabulary)).collect();
    ring.feed(slot, from, &tokens, 20);
}

#[test]
fn the_cache_grows_by_need_and_steps_follow_it_both_ways() {
    let (folder, plan) = narrow();
    let mut ring = Ring::load(WeightSource::stored(&folder, WrittenBlocks::write(&folder)), plan, options());
    let figures = |ring: &Ring| ring.engines[0].residency().figures();
    assert_eq!((figures(&ring).kv, figures(&ring).level), (Bytes::ZERO, 0));
    let pinned = figures(&ring).pinned;
    let mut before = 0;
    for slot in 0..SLOTS {
        fill(&mut ring, slot, 0, CONTEXT);
        assert!(figures(&ring).level >= before);
        before = figures(&ring).level;
    }
    let full = figures(&ring);
    assert!(full.level > 0 && full.taken == full.level && full.pinned < pinned, "{full:?}");
    assert!(full.kv > ring.engines[0].device().memory.kv && full.kv <= full.kv_room, "{full:?}");
    assert!(ring.engines[0].memory().used() <= ring.engines[0].memory().budget);

    (1..SLOTS).for_each(|slot| ring.engines[0].release(slot));
    ring.engines[0].release(0);
    assert_eq!(figures(&ring).kv, Bytes::ZERO);
    for position in 0..60 {
        fill(&mut ring, 0, position, position + 1);
    }
    let calm = figures(&ring);
    assert_eq!((calm.level, calm.undone, calm.pinned, calm.prefetch), (0, full.taken, pinned, Bytes::ZERO), "{calm:?}");
}

#[test]
fn a_hard_limit_beyond_every_step_refuses_growth_and_nothing_else() {
    let (folder, plan) = narrow();
    let mut ring = Ring::load(WeightSource::stored(&folder, WrittenBlocks::write(&folder)), plan, options());
    fill(&mut ring, 0, 0, 30);
    let hard = ring.engines[0].device().memory.budget;
    ring.engines[0].press(Shortage { hard, soft: hard }, "test").unwrap();
    // The page at hand goes on, another one does not come.
    fill(&mut ring, 0, 30, 60);
    let engine = &mut ring.engines[0];
    let mut activation = engine.embed(&[5, 6, 7, 8, 9]).unwrap();
    let rows = [BatchRows { slot: 0, start: 60, count: 5 }];
    let refused = engine.forward(SegmentIndex(0), &rows, &mut activation).unwrap_err();
    assert!(matches!(refused, EngineError::NoRoom { .. }), "{refused}");
    assert!(refused.to_string().contains("try again when others need less"), "{refused}");
    assert_eq!(engine.residency().figures().refused, 1);
    engine.press(Shortage::default(), "test").unwrap();
    fill(&mut ring, 0, 60, 65);
}

#[test]
fn steps_that_cannot_be_taken_are_refused_before_memory_is_taken() {
    let (_, plan) = narrow();
    let refuse = |change: &dyn Fn(&mut PlanDraft), text: &str| {
        let fault = plan.changed(change).unwrap_err().to_string();
        assert!(fault.contains(text), "{fault}");
    };
    refuse(&|plan| plan.devices[0].steps.truncate(2), "can free room for");
    refuse(&|plan| plan.devices[0].steps.reverse(), "above");
    refuse(&|plan| plan.devices[0].steps[1] = plan.devices[0].steps[0].clone(), "does not keep until then");
    refuse(&|plan| plan.devices[0].memory.budget += Bytes(1), "above");
}

#[test]
fn steps_without_a_store_are_refused() {
    let (folder, plan) = narrow();
    let load = lime_engine::Engine::load(&folder, &plan, lime_plan::DeviceIndex(0), options(), &mut |_, _| {});
    let fault = load.err().unwrap().to_string();
    assert!(fault.contains("--store"), "{fault}");
}
