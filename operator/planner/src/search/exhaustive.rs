//! Every candidate, for fleets so small that they can be counted; bounds cut most of them off.

use crate::layout::{Layout, Share};

use super::problem::{Problem, micro_batch_choices};
use super::residency::{Choice, Effort, apply, choices};
use super::settle::{Settled, Work};

/// Most layouts (before residency) that are worth going through one by one.
const MOST_LAYOUTS: u64 = 200_000;

/// Most layers of a device for which every choice of streamed blocks is listed.
const MOST_LAYERS: u32 = 12;

/// Whether the space is small enough for [`improve`].
pub(crate) fn is_small(problem: &Problem<'_>) -> bool {
    let (nodes, layers) = (problem.fleet.nodes().len() as u64, u64::from(problem.card.layers));
    if nodes > 5 || problem.card.layers > MOST_LAYERS {
        return false;
    }
    let mut total = 0_u64;
    let (mut orders, mut cuts) = (1, 1);
    for devices in 1..=nodes.min(layers) {
        orders *= nodes + 1 - devices;
        if devices > 1 {
            cuts = cuts * (layers + 1 - devices) / (devices - 1);
        }
        total += orders * cuts * devices * layers;
    }
    let micro_batches = micro_batch_choices(problem.sequences, problem.fleet.nodes().len()).count() as u64;
    total * micro_batches <= MOST_LAYOUTS
}

/// All layouts of a small problem, without residency.
pub(crate) fn layouts(problem: &Problem<'_>) -> Vec<Layout> {
    let nodes = problem.fleet.nodes().len();
    let mut orders = vec![Vec::new()];
    let mut all = Vec::new();
    for _ in 0..nodes.min(problem.card.layers as usize) {
        orders = orders.iter().flat_map(|order: &Vec<usize>| extended(order, nodes)).collect();
        for order in &orders {
            for layers in compositions(problem.card.layers, order.len()) {
                push_variants(problem, order, &layers, &mut all);
            }
        }
    }
    all.retain(|layout| problem.allows(layout));
    all
}

fn extended(order: &[usize], nodes: usize) -> Vec<Vec<usize>> {
    let free = (0..nodes).filter(|node| !order.contains(node));
    free.map(|node| order.iter().copied().chain([node]).collect()).collect()
}

/// Every way to write `total` as an ordered sum of `parts` positive numbers.
fn compositions(total: u32, parts: usize) -> Vec<Vec<u32>> {
    if parts == 1 {
        return vec![vec![total]];
    }
    let firsts = 1..=total.saturating_sub(parts as u32 - 1);
    let rest =
        |first: u32| compositions(total - first, parts - 1).into_iter().map(move |tail| [vec![first], tail].concat());
    firsts.flat_map(rest).collect()
}

fn push_variants(problem: &Problem<'_>, order: &[usize], layers: &[u32], all: &mut Vec<Layout>) {
    // Segments that leave some device without layers still change who comes when.
    let most = if order.len() == 1 { 1 } else { layers.iter().sum() };
    let asked = problem.goal.segments.filter(|_| order.len() > 1);
    for segments in asked.map_or(1..=most, |asked| asked..=asked) {
        for head in 0..order.len() {
            for micro_batches in micro_batch_choices(problem.sequences, problem.fleet.nodes().len()) {
                let share = |(&node, &layers)| Share { node, layers, streamed: Vec::new(), buffer: 0 };
                let shares = order.iter().zip(layers).map(share).collect();
                all.push(Layout { shares, segments, head, micro_batches });
            }
        }
    }
}

/// The best of everything; `best` is where to begin.
pub(crate) fn improve(problem: &Problem<'_>, best: Option<Settled>, work: &mut Work) -> Option<Settled> {
    let bounded = layouts(problem).into_iter().map(|layout| (problem.lower_bound(&layout), layout));
    let mut bounded: Vec<(u64, Layout)> = bounded.collect();
    bounded.sort_by_key(|(bound, _)| *bound);
    let mut best = best;
    for (bound, layout) in bounded {
        if best.as_ref().is_some_and(|best| bound >= best.time) || work.spent() {
            break;
        }
        let all: Vec<Vec<Choice>> =
            (0..layout.shares.len()).map(|at| choices(problem, &layout, at, Effort::Every)).collect();
        if all.iter().all(|choices| !choices.is_empty()) {
            descend(problem, layout, &all, 0, &mut best, work);
        }
    }
    best
}

/// Chooses for the device at `position` and all after it. Streaming more only delays, so what is chosen so far bounds the rest.
fn descend(
    problem: &Problem<'_>,
    layout: Layout,
    all: &[Vec<Choice>],
    position: usize,
    best: &mut Option<Settled>,
    work: &mut Work,
) {
    if position == all.len() {
        if let Some((_, period)) = work.evaluate(problem, &layout) {
            let found = Settled { time: period.nanos(), layout };
            if best.as_ref().is_none_or(|best| found.time < best.time) {
                *best = Some(found);
            }
        }
        return;
    }
    for choice in &all[position] {
        if work.spent() {
            return;
        }
        let mut tried = layout.clone();
        apply(&mut tried.shares[position], choice);
        let promising = choice.streamed.is_empty() || position + 1 == all.len() || {
            let bound = work.evaluate(problem, &tried).map(|(_, period)| period.nanos());
            bound.is_some_and(|bound| best.as_ref().is_none_or(|best| bound < best.time))
        };
        if promising && best.as_ref().is_none_or(|best| problem.lower_bound(&tried) < best.time) {
            descend(problem, tried, all, position + 1, best, work);
        }
    }
}
