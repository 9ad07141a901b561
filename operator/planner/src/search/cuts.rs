//! Cuts inside layers, where they pay: devices of a good ring of whole layers give each other single blocks, as long as that helps.

use crate::layout::{Grain, Layout, Share};

use super::assign::{THOROUGH, assign_residency};
use super::climb::{binding, climb};
use super::evaluator::{Evaluated, Evaluator};
use super::problem::Problem;
use super::request::as_good_as;

/// Devices of the largest ring of which each change is evaluated thoroughly, and two changes at once are tried.
const SMALL_RING: usize = 6;

/// The best ring that is `start` with layers cut, or cut elsewhere, if that is faster.
pub(super) fn cut(problem: &Problem<'_>, start: &Evaluated, evaluator: &mut Evaluator) -> Option<Evaluated> {
    if start.layout.shares.len() < 2 {
        return None;
    }
    let shares = start.layout.shares.iter().map(Share::bare).collect();
    let even = Layout { shares, grain: Grain::Block, ..start.layout };
    let from = binding(problem, start, evaluator);
    let mut layouts = moves(&even, &from);
    layouts.push(even);
    let mut best: Option<Evaluated> = None;
    for layout in layouts {
        let bound = best.as_ref().map_or(start.time, |best| best.time);
        best = evaluated(problem, &layout, bound, evaluator).or(best);
    }
    loop {
        best = best.map(|best| climb(problem, best, 0, evaluator));
        let stuck = best.as_ref().unwrap_or(start);
        match two_moves(problem, stuck, evaluator) {
            Some(better) => best = Some(better),
            None => return best,
        }
    }
}

/// Where two devices bind alike, one that gives a block away gains nothing until the other one does too. It may even lose a little in
/// between: prompts take another way then, though passes take as long.
fn two_moves(problem: &Problem<'_>, stuck: &Evaluated, evaluator: &mut Evaluator) -> Option<Evaluated> {
    if stuck.layout.shares.len() > SMALL_RING {
        return None;
    }
    let shares = stuck.layout.shares.iter().map(Share::bare).collect();
    let layout = Layout { shares, grain: Grain::Block, ..stuck.layout };
    for once in moves(&layout, &binding(problem, stuck, evaluator)) {
        let Some(level) = evaluated(problem, &once, as_good_as(stuck.time), evaluator) else { continue };
        for twice in moves(&once, &binding(problem, &level, evaluator)) {
            let better = evaluated(problem, &twice, stuck.time, evaluator);
            if better.is_some() || evaluator.spent() {
                return better;
            }
        }
    }
    None
}

/// The layout with its residency, if that is faster than `bound`.
fn evaluated(problem: &Problem<'_>, layout: &Layout, bound: u64, evaluator: &mut Evaluator) -> Option<Evaluated> {
    if evaluator.spent() {
        return None;
    }
    let rounds = if layout.shares.len() <= SMALL_RING { THOROUGH } else { 1 };
    assign_residency(problem, layout, bound, rounds, evaluator)
}

/// Each of `from` gives one block, or two, to each other device.
fn moves(layout: &Layout, from: &[usize]) -> Vec<Layout> {
    let mut found = Vec::new();
    for &from in from {
        for to in (0..layout.shares.len()).filter(|&to| to != from) {
            for count in (1..=2).filter(|&count| layout.shares[from].blocks > count) {
                let mut moved = layout.clone();
                moved.shares[from].blocks -= count;
                moved.shares[to].blocks += count;
                found.push(moved);
            }
        }
    }
    found
}
