//! Every layer cut across all devices: two all-reduces per layer, and each device loads what its slice lacks memory for.

use crate::cost::{Unit, nanos};
use crate::search::Problem;
use crate::timeline::{Activity, Interval, Lane, Timeline};
use lime_plan::Nanos;

use super::{Comparison, Strategy};

/// Parts into which a model is cut for splitting: fine enough to be called continuous.
const PARTS: u64 = 4096;

/// Loads are in the way of the token (Galaxy).
pub(super) fn on_demand(problem: &Problem<'_>) -> Comparison {
    best_set(problem, Strategy::TensorParallel, ring_all_reduce, |compute, load| compute + load)
}

/// Loads run in the background of everything else (TPI-LLM).
pub(super) fn sliding_window(problem: &Problem<'_>) -> Comparison {
    best_set(problem, Strategy::TensorWindow, star_all_reduce, u64::max)
}

/// A split over some devices.
struct Split {
    nodes: Vec<usize>,
    /// Compute, load and all-reduce time of a pass.
    compute: Vec<u64>,
    load: Vec<u64>,
    reduce: u64,
    time: u64,
}

fn best_set(
    problem: &Problem<'_>,
    strategy: Strategy,
    reduce: fn(&Problem<'_>, &[usize]) -> u64,
    overlap: fn(u64, u64) -> u64,
) -> Comparison {
    let mut by_memory: Vec<usize> = (0..problem.fleet.nodes().len()).collect();
    by_memory.sort_by_key(|&node| std::cmp::Reverse(problem.fleet.nodes()[node].memory));
    let mut by_speed = by_memory.clone();
    by_speed.sort_by_key(|&node| problem.costs.rows(problem.sequences).layer[node]);
    let sets = [&by_memory, &by_speed].into_iter().flat_map(|ranked| (1..=ranked.len()).map(|count| &ranked[..count]));
    let splits = sets.filter_map(|nodes| split(problem, nodes, reduce(problem, nodes), overlap));
    let Some(best) = splits.min_by_key(|split| split.time) else {
        return Comparison::impossible(strategy, "the slices do not fit and there is no disk to load from");
    };
    let (loads, computes) =
        (best.load.iter().max().copied().unwrap_or(0), best.compute.iter().max().copied().unwrap_or(0));
    let because = format!(
        "per pass {} of all-reduce, up to {} of compute and {} of loads on {} devices",
        Nanos(best.reduce),
        Nanos(computes),
        Nanos(loads),
        best.nodes.len()
    );
    let timeline = Some(drawn(problem, &best, strategy, overlap(1, 1) == 1));
    Comparison { strategy, time_per_token: Some(Nanos(best.time)), because, timeline }
}

/// The split in which all devices take equally long: bisection on that time.
fn split(problem: &Problem<'_>, nodes: &[usize], reduce: u64, overlap: fn(u64, u64) -> u64) -> Option<Split> {
    let part = |node: usize, parts: u64| cost(problem, node, parts, nodes.len());
    let most = |node: usize, time: u64| {
        let (mut low, mut high) = (0, PARTS);
        while low < high {
            let middle = (low + high).div_ceil(2);
            let fits = part(node, middle).is_some_and(|(compute, load)| overlap(compute, load) <= time);
            if fits { low = middle } else { high = middle - 1 }
        }
        low
    };
    let enough = |time: u64| nodes.iter().map(|&node| most(node, time)).sum::<u64>() >= PARTS;
    let mut high = 1_u64 << 20;
    while !enough(high) {
        high = high.checked_mul(2).filter(|high| *high < 1 << 56)?;
    }
    let mut low = high / 2;
    while high - low > high / 512 + 1 {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle }
    }
    let mut left = PARTS;
    let (mut compute, mut load) = (Vec::new(), Vec::new());
    for &node in nodes {
        let parts = most(node, high).min(left);
        left -= parts;
        let (computed, loaded) = part(node, parts)?;
        compute.push(computed);
        load.push(loaded);
    }
    // A window hides loads behind all-reduces too.
    let hidden = overlap(1, 1) == 1;
    let slowest = compute.iter().zip(&load);
    let time = match hidden {
        true => slowest.map(|(compute, load)| (compute + reduce).max(*load)).max()?,
        false => slowest.map(|(compute, load)| compute + load).max()? + reduce,
    };
    Some(Split { nodes: nodes.to_vec(), compute, load, reduce, time })
}

/// Compute and load time of `parts` of all layers on `node`; `None` where it can neither hold nor load them. Embedding and
/// head are cut as well.
fn cost(problem: &Problem<'_>, node: usize, parts: u64, devices: usize) -> Option<(u64, u64)> {
    let table = problem.costs.rows(problem.sequences);
    let layers = u64::from(problem.card.layers);
    let head = Unit::head(problem.card.layers);
    let whole = table.layer[node] * layers + table.compute[node][head.index()];
    let compute = whole / PARTS * parts;
    let weights = problem.card.weight_bytes().0 / PARTS * parts;
    let kv = (problem.room_at_worst(node, 0, false, false)
        - problem.room_at_worst(node, problem.card.layers, false, false)) as u64;
    let room = problem.room_at_worst(node, 0, false, true) - (kv / PARTS * parts) as i64;
    // Buffers of two layers' slices where anything is loaded.
    let window = 2 * (problem.attention_bytes + problem.mlp_bytes) / devices as u64;
    if weights as i64 <= room {
        return Some((compute, 0));
    }
    let disk = problem.fleet.nodes()[node].disk_bandwidth?;
    let missing = weights as i64 - (room - window as i64);
    (missing <= weights as i64).then(|| (compute, nanos(missing as u64, disk)))
}

/// Two all-reduces per layer round the ring: 2 (n - 1) steps of an n-th each, at the pace of the slowest link.
fn ring_all_reduce(problem: &Problem<'_>, nodes: &[usize]) -> u64 {
    let count = nodes.len() as u64;
    if count == 1 {
        return 0;
    }
    let bytes = problem.costs.rows(problem.sequences).activation.div_ceil(count);
    let next = nodes.iter().cycle().skip(1);
    let step = |(&from, &to): (&usize, &usize)| {
        let link = problem.fleet.link(from, to);
        nanos(bytes, link.bandwidth) + link.latency.0
    };
    let step = nodes.iter().zip(next).map(step).max().unwrap_or(0);
    2 * u64::from(problem.card.layers) * 2 * (count - 1) * step
}

/// Two all-reduces per layer through one node, the best placed: everybody sends to it, it sends to everybody.
fn star_all_reduce(problem: &Problem<'_>, nodes: &[usize]) -> u64 {
    if nodes.len() == 1 {
        return 0;
    }
    let bytes = problem.costs.rows(problem.sequences).activation;
    let through = |&middle: &usize| -> u64 {
        let others = || nodes.iter().copied().filter(move |&node| node != middle);
        // The middle's link carries all of it, one after the other.
        let inward: u64 = others().map(|from| nanos(bytes, problem.fleet.link(from, middle).bandwidth)).sum();
        let outward: u64 = others().map(|to| nanos(bytes, problem.fleet.link(middle, to).bandwidth)).sum();
        let latency = |from: usize, to: usize| problem.fleet.link(from, to).latency.0;
        let there = others().map(|from| latency(from, middle)).max().unwrap_or(0);
        let back = others().map(|to| latency(middle, to)).max().unwrap_or(0);
        inward + outward + there + back
    };
    2 * u64::from(problem.card.layers) * nodes.iter().map(through).min().unwrap_or(0)
}

/// Layer by layer: everybody loads and computes its slice, then the all-reduce.
fn drawn(problem: &Problem<'_>, split: &Split, strategy: Strategy, hidden: bool) -> Timeline {
    let layers = u64::from(problem.card.layers);
    let per_layer = split.time / layers;
    let lane = |at: usize| {
        let (compute, load, reduce) = (split.compute[at] / layers, split.load[at] / layers, split.reduce / layers);
        let mut spans = Vec::new();
        let mut push = |activity: Activity, start: u64, end: u64| {
            if start < end {
                spans.push(Interval { activity, start: Nanos(start), end: Nanos(end) });
            }
        };
        for layer in 0..layers {
            let start = layer * per_layer;
            let sent = start + per_layer - reduce.min(per_layer);
            let computed_from = if hidden { sent.saturating_sub(compute).max(start) } else { start + load };
            push(Activity::Load, start, start + load);
            if !hidden {
                push(Activity::Wait, start, start + load);
            }
            push(Activity::Compute, computed_from, computed_from + compute);
            push(Activity::Send, sent, start + per_layer);
        }
        Lane { name: problem.fleet.nodes()[split.nodes[at]].name.clone(), spans }
    };
    let lanes = (0..split.nodes.len()).map(lane).collect();
    Timeline { title: strategy.name().to_owned(), period: Nanos(split.time), lanes }
}
