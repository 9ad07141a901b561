//! Refinement by simulation: small changes to a good layout, as long as they help.

use crate::layout::{Layout, Share};

use super::assign::{THOROUGH, assign_residency};
use super::evaluator::{Evaluated, Evaluator};
use super::problem::{Problem, micro_batch_choices};

/// Climbs from `best` until no small change helps, the floor is reached or the work is used up.
pub(crate) fn climb(problem: &Problem<'_>, mut best: Evaluated, floor: u64, evaluator: &mut Evaluator) -> Evaluated {
    loop {
        if best.time <= floor || evaluator.spent() {
            return best;
        }
        let mut better: Option<Evaluated> = None;
        for layout in neighbours(problem, &best.layout, &binding(problem, &best, evaluator)) {
            let bound = better.as_ref().map_or(best.time, |found| found.time);
            let rounds = if layout.shares.len() <= 6 { THOROUGH } else { 1 };
            better = assign_residency(problem, &layout, bound, rounds, evaluator).or(better);
            if evaluator.spent() {
                break;
            }
        }
        match better {
            Some(found) => best = found,
            None => return best,
        }
    }
}

/// Positions on the critical circuit.
pub(super) fn binding(problem: &Problem<'_>, evaluated: &Evaluated, evaluator: &mut Evaluator) -> Vec<usize> {
    let Some((schedule, period)) = evaluator.evaluate(problem, &evaluated.layout) else { return Vec::new() };
    let mut binding: Vec<usize> = period.circuit.iter().map(|&event| schedule.events[event as usize].at).collect();
    evaluator.scratch.spare.take_back(schedule);
    binding.sort_unstable();
    binding.dedup();
    binding
}

fn neighbours(problem: &Problem<'_>, layout: &Layout, binding: &[usize]) -> Vec<Layout> {
    let count = layout.shares.len();
    // What streams is chosen anew for each of them.
    let bare = Layout { shares: layout.shares.iter().map(Share::bare).collect(), ..*layout };
    let layout = &bare;
    let mut found = Vec::new();
    let changed = |change: &dyn Fn(&mut Layout)| {
        let mut changed = layout.clone();
        change(&mut changed);
        changed
    };
    let piece = layout.grain.blocks();
    // A piece leaves a device that binds; where layers are cut, one or two blocks.
    for &from in binding {
        for to in (0..count).filter(|&to| to != from) {
            for moved in (piece..=2).filter(|&moved| layout.shares[from].blocks > moved) {
                found.push(changed(&|layout| {
                    layout.shares[from].blocks -= moved;
                    layout.shares[to].blocks += moved;
                }));
            }
        }
    }
    let most = layout.shares.iter().map(|share| share.blocks / piece).max().unwrap_or(1).min(problem.card.layers);
    // Rings other than what was asked for are refused when residency is assigned.
    for segments in [layout.segments - 1, layout.segments + 1, layout.segments + 2] {
        if (1..=most).contains(&segments) && count > 1 {
            found.push(changed(&|layout| layout.segments = segments));
        }
    }
    for head in [0, count - 1] {
        if head != layout.head {
            found.push(changed(&|layout| layout.head = head));
        }
    }
    for micro_batches in micro_batch_choices(problem.sequences, problem.fleet.nodes().len()) {
        if micro_batches.abs_diff(layout.micro_batches) <= 2 && micro_batches != layout.micro_batches {
            found.push(changed(&|layout| layout.micro_batches = micro_batches));
        }
    }
    // Others at the ends of the ring, where embedding and head are.
    for end in [0, count - 1] {
        for other in (0..count).filter(|&other| other != end && count > 1) {
            found.push(changed(&|layout| layout.shares.swap(end, other)));
        }
    }
    found.extend(without_one(layout));
    found.extend(with_one_more(problem, layout, binding));
    found
}

/// Rings without one of the smaller shares, its layers given to each other device in turn.
fn without_one(layout: &Layout) -> Vec<Layout> {
    let count = layout.shares.len();
    if count < 2 {
        return Vec::new();
    }
    let mut smallest: Vec<usize> = (0..count).collect();
    smallest.sort_by_key(|&at| layout.shares[at].blocks);
    let mut found = Vec::new();
    for &gone in smallest.iter().take(3) {
        for heir in 0..count - 1 {
            let mut smaller = layout.clone();
            let share = smaller.shares.remove(gone);
            smaller.shares[heir].blocks += share.blocks;
            smaller.head = if layout.head == count - 1 { count - 2 } else { smaller.head.min(count - 2) };
            found.push(smaller);
        }
    }
    found
}

/// Rings with one node more, which takes some layers from a device that binds.
fn with_one_more(problem: &Problem<'_>, layout: &Layout, binding: &[usize]) -> Vec<Layout> {
    let nodes = problem.fleet.nodes().len();
    let free = (0..nodes).filter(|node| layout.shares.iter().all(|share| share.node != *node));
    let mut found = Vec::new();
    for node in free.take(8) {
        for &from in binding {
            let (blocks, piece) = (layout.shares[from].blocks, layout.grain.blocks());
            for moved in [piece, blocks / (2 * piece) * piece] {
                if moved == 0 || moved >= blocks {
                    continue;
                }
                let mut larger = layout.clone();
                larger.shares[from].blocks -= moved;
                let mut share = larger.shares[from].clone();
                (share.node, share.blocks) = (node, moved);
                let head_last = layout.head + 1 == layout.shares.len();
                larger.shares.insert(from + 1, share);
                larger.head =
                    if head_last { larger.shares.len() - 1 } else { layout.head + usize::from(layout.head > from) };
                found.push(larger);
            }
        }
    }
    found
}
