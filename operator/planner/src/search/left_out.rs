//! Nodes that take no part: what a pass would take with each of them.

use crate::layout::{Layout, Share};

use super::assign::assign_residency;
use super::evaluator::{Evaluated, Evaluator};
use super::problem::Problem;

/// Most places of a ring in which a node is tried; on large fleets one will do.
const PLACES: usize = 8;
const LARGE: usize = 8;

/// The nodes that a layout does without.
pub(crate) fn left_out(problem: &Problem<'_>, layout: &Layout) -> Vec<usize> {
    let nodes = 0..problem.fleet.nodes().len();
    nodes.filter(|node| layout.shares.iter().all(|share| share.node != *node)).collect()
}

/// The fastest ring that is `best` and `node` besides, with one piece or half of what the fullest device has, where any holds.
pub(crate) fn with_node(
    problem: &Problem<'_>,
    best: &Evaluated,
    node: usize,
    evaluator: &mut Evaluator,
) -> Option<Evaluated> {
    let shares = &best.layout.shares;
    let count = shares.len();
    if count >= problem.most_devices() {
        return None;
    }
    let piece = best.layout.grain.blocks();
    let from = (0..count).filter(|&at| shares[at].blocks > piece).max_by_key(|&at| shares[at].blocks)?;
    let large = problem.fleet.nodes().len() > LARGE;
    let (most_places, most_moves) = if large { (1, 1) } else { (PLACES, 2) };
    let mut moves = vec![piece, shares[from].blocks / (2 * piece) * piece];
    moves.dedup();
    moves.truncate(most_moves);
    // Beside the device that gives, at the ends, and in between as far as that is affordable.
    let mut places = vec![from + 1, from, count, 0];
    places.extend(0..=count);
    let mut tried: Vec<usize> = Vec::new();
    for place in places {
        if !tried.contains(&place) && tried.len() < most_places {
            tried.push(place);
        }
    }
    let mut found: Option<Evaluated> = None;
    for (place, moved) in tried.into_iter().flat_map(|place| moves.iter().map(move |&moved| (place, moved))) {
        for head_stays in [true, false] {
            let mut layout = best.layout.clone();
            layout.shares[from].blocks -= moved;
            layout.shares.insert(place, Share { node, blocks: moved, streamed: Vec::new(), buffer: 0 });
            let behind = usize::from(layout.head >= place);
            layout.head = if head_stays { layout.head + behind } else { place };
            if !head_stays && place != 0 && place != count {
                continue;
            }
            let limit = found.as_ref().map_or(u64::MAX, |found| found.time);
            found = assign_residency(problem, &layout, limit, 1, evaluator).or(found);
        }
    }
    found
}
