//! Weights as mapped files under the page cache: a piped ring of several devices, or one node alone.
//!
//! A pass reads a device's weights in a cycle, and a cycle under least-recently-used finds nothing: a device whose weights
//! exceed its memory by a little reads nearly all of them for every pass (measured on prima.cpp and llama.cpp).

use crate::cost::{Unit, nanos, send};
use crate::search::{Problem, rings};
use crate::timeline::{Activity, Interval, Lane, Timeline};
use lime_plan::Nanos;

use super::{Comparison, Strategy};

/// Rounds of the ring that are tried.
const ROUNDS: [u64; 5] = [1, 2, 4, 8, 16];

struct Dealt {
    order: Vec<usize>,
    layers: Vec<u32>,
    rounds: u64,
    time: u64,
}

/// What a device reads per pass.
fn reads(problem: &Problem<'_>, node: usize, layers: u32, first: bool, last: bool) -> u64 {
    let head = if last { problem.head_bytes(first) } else { 0 };
    let weights = u64::from(layers) * (problem.attention_bytes + problem.mlp_bytes) + head;
    if weights as i64 <= problem.room_at_worst(node, layers, first, last) { 0 } else { weights }
}

fn read_time(problem: &Problem<'_>, node: usize, bytes: u64) -> Option<u64> {
    match (bytes, problem.fleet.nodes()[node].disk_bandwidth) {
        (0, _) => Some(0),
        (bytes, Some(disk)) => Some(nanos(bytes, disk)),
        (_, None) => None,
    }
}

/// prima.cpp: layers in a ring of several rounds, reads in the background of the others' work; who reads and how much is the
/// page cache's choice.
pub(super) fn piped_ring(problem: &Problem<'_>) -> Comparison {
    let strategy = Strategy::PipedRing;
    let orders: Vec<Vec<usize>> = rings::sets(problem).iter().map(|set| rings::cheap_order(problem, set)).collect();
    let every = orders.iter().flat_map(|order| ROUNDS.iter().map(move |&rounds| (order, rounds)));
    let dealt = every.filter_map(|(order, rounds)| deal(problem, order, rounds));
    let Some(best) = dealt.min_by_key(|dealt| dealt.time) else {
        return Comparison::impossible(strategy, "the layers do not fit and there is no disk to read from");
    };
    let last = best.order.len() - 1;
    let read = |at: usize| reads(problem, best.order[at], best.layers[at], at == 0, at == last);
    let thrashing = (0..=last).filter(|&at| read(at) > 0).count();
    let because = match thrashing {
        0 => format!("everything fits into {} devices, {} rounds", last + 1, best.rounds),
        _ => {
            format!("{thrashing} of {} devices read all their weights for every pass, {} rounds", last + 1, best.rounds)
        }
    };
    let timeline = Some(drawn(problem, &best, strategy));
    Comparison { strategy, time_per_token: Some(Nanos(best.time)), because, timeline }
}

fn chain(problem: &Problem<'_>, order: &[usize], rounds: u64) -> u64 {
    let last = order.len() - 1;
    let table = problem.costs.rows(problem.sequences);
    let head = table.compute[order[last]][Unit::head(problem.card.layers).index()];
    let once = if last == 0 { 0 } else { rings::round(problem, order) };
    table.compute[order[0]][Unit::EMBEDDING.index()] + head + once * rounds
}

/// For a target time the most layers that a device can take, the cheapest layers first, bisection on the target.
fn deal(problem: &Problem<'_>, order: &[usize], rounds: u64) -> Option<Dealt> {
    let table = problem.costs.rows(problem.sequences);
    let last = order.len() - 1;
    let fixed = chain(problem, order, rounds);
    let fits = |at: usize, layers: u32, time: u64| {
        let node = order[at];
        let read = read_time(problem, node, reads(problem, node, layers, at == 0, at == last));
        read.is_some_and(|read| read <= time)
    };
    let mut cheapest: Vec<usize> = (0..order.len()).collect();
    cheapest.sort_by_key(|&at| table.layer[order[at]]);
    let dealt = |time: u64| {
        let (mut left, mut spent) = (problem.card.layers, fixed);
        let mut layers = vec![0; order.len()];
        for &at in &cheapest {
            // Not monotone at the edge of memory: the most layers either fit or are all read in time.
            let most = (0..=left).rev().find(|&count| fits(at, count, time)).unwrap_or(0);
            layers[at] = most;
            left -= most;
            spent += u64::from(most) * table.layer[order[at]];
        }
        (left == 0 && spent <= time).then_some(layers)
    };
    let mut high = fixed.max(1 << 20);
    let mut layers = loop {
        match dealt(high) {
            Some(layers) => break layers,
            None => high = high.checked_mul(2).filter(|high| *high < 1 << 56)?,
        }
    };
    let mut low = high / 2;
    while high - low > high / 512 + 1 {
        let middle = low + (high - low) / 2;
        match dealt(middle) {
            Some(found) => (high, layers) = (middle, found),
            None => low = middle,
        }
    }
    Some(Dealt { order: order.to_vec(), layers, rounds, time: high })
}

fn drawn(problem: &Problem<'_>, dealt: &Dealt, strategy: Strategy) -> Timeline {
    let table = problem.costs.rows(problem.sequences);
    let last = dealt.order.len() - 1;
    let mut lanes: Vec<Lane> = Vec::new();
    let mut work = 0;
    for (at, &node) in dealt.order.iter().enumerate() {
        let read = reads(problem, node, dealt.layers[at], at == 0, at == last);
        let loading = read_time(problem, node, read).unwrap_or(0);
        let mut spans = Vec::new();
        if loading > 0 {
            spans.push(Interval { activity: Activity::Load, start: Nanos(0), end: Nanos(loading.min(dealt.time)) });
        }
        work += u64::from(dealt.layers[at]) * table.layer[node];
        lanes.push(Lane { name: problem.fleet.nodes()[node].name.clone(), spans });
    }
    let hops = dealt.time.min(chain(problem, &dealt.order, dealt.rounds));
    // What is neither compute nor hop is waiting, spread over the visits.
    let visits = dealt.rounds * dealt.order.len() as u64;
    let slack = dealt.time.saturating_sub(work + hops) / visits;
    let mut now = 0;
    for round in 0..dealt.rounds {
        for (at, &node) in dealt.order.iter().enumerate() {
            let layers = u64::from(dealt.layers[at]);
            let here = (round + 1) * layers / dealt.rounds - round * layers / dealt.rounds;
            let compute = here * table.layer[node];
            let mut push = |activity: Activity, length: u64| {
                if length > 0 {
                    lanes[at].spans.push(Interval { activity, start: Nanos(now), end: Nanos(now + length) });
                }
                now += length;
            };
            push(Activity::Wait, slack);
            push(Activity::Compute, compute);
            if last > 0 {
                let link = problem.fleet.link(node, dealt.order[(at + 1) % dealt.order.len()]);
                push(Activity::Send, send(link, table.activation) + link.latency.0);
            }
        }
    }
    Timeline { title: strategy.name().to_owned(), period: Nanos(dealt.time.max(now)), lanes }
}

/// llama.cpp: everything on one node, whichever is fastest so.
pub(super) fn single_node(problem: &Problem<'_>) -> Comparison {
    let strategy = Strategy::SingleNode;
    let all = problem.card.layers;
    let table = problem.costs.rows(problem.sequences);
    let on = |node: usize| {
        // The embedding is read row by row; the rest in a cycle.
        let loading = read_time(problem, node, reads(problem, node, all, true, true))?;
        let compute = chain(problem, &[node], 1) + u64::from(all) * table.layer[node];
        Some((compute.max(loading), node, compute, loading))
    };
    let Some((time, node, compute, loading)) = (0..problem.fleet.nodes().len()).filter_map(on).min() else {
        return Comparison::impossible(strategy, "no node holds the model, none has a disk");
    };
    let name = problem.fleet.nodes()[node].name.clone();
    let because = match loading {
        0 => format!("everything fits on {name}"),
        _ => format!("{name} reads all weights for every pass"),
    };
    let span = |activity: Activity, start: u64, end: u64| Interval { activity, start: Nanos(start), end: Nanos(end) };
    let mut spans = vec![span(Activity::Compute, time - compute, time)];
    if loading > 0 {
        spans.push(span(Activity::Load, 0, loading));
        spans.push(span(Activity::Wait, 0, time - compute));
    }
    let timeline =
        Some(Timeline { title: strategy.name().to_owned(), period: Nanos(time), lanes: vec![Lane { name, spans }] });
    Comparison { strategy, time_per_token: Some(Nanos(time)), because, timeline }
}
