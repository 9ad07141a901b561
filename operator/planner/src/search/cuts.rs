//! Cuts inside layers, where they pay: devices of a good ring of whole layers give each other single blocks, as long as that helps.

use crate::layout::{Grain, Layout, Share};

use super::climb::{binding, climb};
use super::problem::Problem;
use super::settle::{Settled, THOROUGH, Work, settle};

/// Devices of the largest ring of which each change is settled thoroughly.
const SMALL_RING: usize = 6;

/// The best ring that is `start` with layers cut, if that is faster.
pub(super) fn cut(problem: &Problem<'_>, start: &Settled, work: &mut Work) -> Option<Settled> {
    let count = start.layout.shares.len();
    if count < 2 || start.layout.grain == Grain::Block {
        return None;
    }
    let shares = start.layout.shares.iter().map(Share::bare).collect();
    let even = Layout { shares, grain: Grain::Block, ..start.layout };
    let rounds = if count <= SMALL_RING { THOROUGH } else { 1 };
    let mut best: Option<Settled> = None;
    let mut consider = |layout: &Layout, work: &mut Work| {
        let bound = best.as_ref().map_or(start.time, |best| best.time);
        best = settle(problem, layout, bound, rounds, work).filter(|found| found.time < bound).or(best.take());
    };
    consider(&even, work);
    for from in binding(problem, start, work) {
        for to in (0..count).filter(|&to| to != from && even.shares[from].blocks > 1) {
            if work.spent() {
                break;
            }
            let mut moved = even.clone();
            moved.shares[from].blocks -= 1;
            moved.shares[to].blocks += 1;
            consider(&moved, work);
        }
    }
    Some(climb(problem, best?, 0, work))
}
