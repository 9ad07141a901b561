//! The search: rings by measure, layer counts by formula, residency and refinement by simulation; small fleets in full.

mod capacity;
mod climb;
mod estimate;
mod exhaustive;
mod floors;
mod problem;
mod residency;
pub(crate) mod rings;
mod settle;
mod subsets;
#[cfg(test)]
mod tests;

use crate::layout::{Layout, Share};

pub(crate) use problem::Problem;
pub(crate) use settle::Settled;
pub(crate) use subsets::search_subsets;

use estimate::{Estimate, Ring, deal_by_delay, estimate};
use problem::micro_batch_choices;
use settle::{THOROUGH, Work, settle};

/// Rings that are refined by simulation, of all that were estimated.
const REFINED: usize = 4;

/// Rings of which devices are left out one by one and which are turned, of all that were estimated.
const THINNED: usize = 8;

/// Of those, the ones from which small changes are tried.
const CLIMBS: usize = 3;

/// Runners-up that are kept.
const ALTERNATIVES: usize = 4;

/// Numbers of segments that are estimated; climbing reaches those between.
const SEGMENTS: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20];

/// What the search found.
pub(crate) struct Found {
    /// The best first.
    pub(crate) settled: Vec<Settled>,
    /// Whether everything was tried, so that nothing better exists.
    pub(crate) complete: bool,
}

/// A ring with its layers dealt out.
#[derive(Clone)]
struct Dealt {
    ring: Ring,
    estimate: Estimate,
}

impl Dealt {
    /// The layout, without devices that got no layers.
    fn layout(&self) -> Layout {
        let of = |(&node, &layers)| Share { node, layers, streamed: Vec::new(), buffer: 0 };
        let shares = self.ring.order.iter().zip(&self.estimate.layers).map(of).collect();
        Layout { shares, segments: self.ring.segments, head: self.ring.head, micro_batches: self.ring.micro_batches }
    }
}

/// The best candidates, best first; none where no candidate fits.
pub(crate) fn search(problem: &Problem<'_>) -> Found {
    let size = problem.fleet.nodes().len() as u64 * u64::from(problem.card.layers);
    let mut work = Work::new(200_000 + 250 * size);
    let mut dealt = estimates(problem);
    dealt.sort_by_cached_key(key);
    dealt.dedup_by(|a, b| a.ring == b.ring);
    let mut settled: Vec<Settled> = Vec::new();
    // The formula flatters rings of several segments: plain pipelines are looked at in any case.
    let plain = dealt.iter().skip(4 * REFINED).filter(|dealt| dealt.ring.segments == 1).take(REFINED);
    for dealt in dealt.iter().take(4 * REFINED).chain(plain) {
        settled.extend(settle(problem, &dealt.layout(), u64::MAX, 0, &mut work));
    }
    if settled.is_empty() {
        // The formula is optimistic about whole blocks: fall back to what surely fits.
        let some = capacity::some_ring(problem).map(|(ring, estimate)| Dealt { ring, estimate });
        settled.extend(some.and_then(|dealt| settle(problem, &dealt.layout(), u64::MAX, THOROUGH, &mut work)));
    }
    settled.sort_by_cached_key(Settled::rank);
    settled.dedup_by(|a, b| a.layout == b.layout);
    // Where simulation agrees with the best that the formula hopes for, there is nothing left to climb to.
    let hoped = dealt.iter().map(|dealt| dealt.estimate.time).min().unwrap_or(0);
    let mut refined: Vec<Settled> = Vec::new();
    for start in settled.iter().take(REFINED) {
        refined.extend(settle(problem, &start.layout, u64::MAX, THOROUGH, &mut work));
    }
    refined.sort_by_cached_key(Settled::rank);
    for start in refined.iter_mut().take(CLIMBS) {
        if start.time > hoped {
            *start = climb::climb(problem, start.clone(), hoped, &mut work);
        }
    }
    let mut complete = false;
    if exhaustive::is_small(problem) {
        let best = refined.iter().min_by_key(|settled| settled.time).cloned();
        let mut work = Work::new(60_000_000);
        refined.extend(exhaustive::improve(problem, best, &mut work));
        complete = !work.spent();
    }
    refined.extend(settled);
    refined.sort_by_cached_key(Settled::rank);
    refined.dedup_by(|a, b| shape(&a.layout) == shape(&b.layout));
    refined.truncate(1 + ALTERNATIVES);
    Found { settled: refined, complete }
}

type Shape = (Vec<(usize, u32)>, u32, u32);

/// What people see of a layout: alternatives differ in it.
fn shape(layout: &Layout) -> Shape {
    (layout.shares.iter().map(|share| (share.node, share.layers)).collect(), layout.segments, layout.micro_batches)
}

fn key(dealt: &Dealt) -> (u64, usize, u32, u32, Vec<usize>, usize) {
    let ring = &dealt.ring;
    (dealt.estimate.time, ring.order.len(), ring.segments, ring.micro_batches, ring.order.clone(), ring.head)
}

/// Numbers of segments to estimate: the one that was asked for, or all that are worth it.
fn segment_choices(problem: &Problem<'_>) -> Vec<u32> {
    match problem.goal.segments {
        Some(segments) => vec![segments],
        None => SEGMENTS.into_iter().filter(|&segments| segments <= problem.card.layers).collect(),
    }
}

/// Estimated rings: for each number of segments and micro-batches the best few sets of nodes, thinned and turned.
fn estimates(problem: &Problem<'_>) -> Vec<Dealt> {
    let sets: Vec<Vec<usize>> = rings::sets(problem).iter().map(|set| rings::cheap_order(problem, set)).collect();
    let mut all = Vec::new();
    let (mut delayed, mut pinned): (Vec<Dealt>, Vec<Dealt>) = (Vec::new(), Vec::new());
    for micro_batches in micro_batch_choices(problem.sequences, problem.fleet.nodes().len()) {
        for segments in segment_choices(problem) {
            // The two best; a ring that does not beat the second is not worked out.
            let mut found: Vec<Dealt> = Vec::new();
            for order in sets.iter().filter(|order| segments == 1 || order.len() > 1 || problem.goal.segments.is_some())
            {
                let ring = Ring { order: order.clone(), head: order.len() - 1, segments, micro_batches };
                let limit = found.get(1).map_or(u64::MAX, |second| second.estimate.time);
                if (segments == 1 || problem.goal.segments.is_some()) && micro_batches == 1 {
                    for (deal, best) in [(Deal::ByDelay, &mut delayed), (Deal::InMemory, &mut pinned)] {
                        best.extend(dealt(problem, ring.clone(), u64::MAX, deal));
                        best.sort_by_cached_key(key);
                        best.truncate(2);
                    }
                }
                found.extend(dealt(problem, ring, limit, Deal::ByTarget));
                found.sort_by_cached_key(key);
                found.truncate(2);
            }
            all.extend(found);
        }
    }
    for (deal, found) in [(Deal::ByDelay, delayed), (Deal::InMemory, pinned)] {
        for start in found {
            all.push(best_turn(problem, &start, deal));
            all.push(start);
        }
    }
    all.sort_by_cached_key(key);
    for start in all.iter().take(THINNED).cloned().collect::<Vec<_>>() {
        let thinned = thin(problem, start);
        all.push(best_turn(problem, &thinned, Deal::ByTarget));
        all.push(thinned);
    }
    if all.is_empty() {
        all.extend(capacity::some_ring(problem).map(|(ring, estimate)| Dealt { ring, estimate }));
    }
    all
}

/// Whether any candidate fits, however slow.
pub(crate) fn fits(problem: &Problem<'_>) -> bool {
    capacity::some_ring(problem).is_some()
}

/// How layers are dealt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deal {
    /// For a target time that nobody misses.
    ByTarget,
    /// Where they delay the token least, waits included.
    ByDelay,
    /// The same with everything in memory.
    InMemory,
}

/// Deals the layers of a ring and drops devices that got none; `None` where that does not beat `limit`.
fn dealt(problem: &Problem<'_>, ring: Ring, limit: u64, deal: Deal) -> Option<Dealt> {
    let mut ring = ring;
    loop {
        let mut estimate = match deal {
            Deal::ByTarget => estimate(problem, &ring, limit)?,
            Deal::ByDelay => deal_by_delay(problem, &ring, true)?,
            Deal::InMemory => deal_by_delay(problem, &ring, false)?,
        };
        keep_enough(&mut estimate.layers, problem.least_devices());
        if estimate.layers.iter().all(|&layers| layers > 0) {
            return (estimate.time < limit).then_some(Dealt { ring, estimate });
        }
        // Never empty: the layers are somewhere.
        let kept = |at: &usize| estimate.layers[*at] > 0;
        let order: Vec<usize> = (0..ring.order.len()).filter(kept).map(|at| ring.order[at]).collect();
        let head = if ring.head == 0 { 0 } else { order.len() - 1 };
        ring = Ring { order, head, ..ring };
    }
}

/// Gives devices without layers one each, from whoever has most, until at least `least` devices have some.
fn keep_enough(layers: &mut [u32], least: usize) {
    while layers.iter().filter(|&&layers| layers > 0).count() < least {
        let most = (0..layers.len()).max_by_key(|&at| layers[at]).filter(|&at| layers[at] > 1);
        let (Some(most), Some(none)) = (most, layers.iter().position(|&layers| layers == 0)) else { return };
        layers[most] -= 1;
        layers[none] += 1;
    }
}

/// Leaves out one device after another as long as that helps.
fn thin(problem: &Problem<'_>, start: Dealt) -> Dealt {
    let mut best = start;
    loop {
        let count = best.ring.order.len();
        let mut smallest: Vec<usize> = (0..count).collect();
        smallest.sort_by_key(|&at| best.estimate.layers[at]);
        let without = |&gone: &usize| {
            let mut ring = best.ring.clone();
            ring.order.remove(gone);
            ring.head = if best.ring.head == 0 { 0 } else { count - 2 };
            dealt(problem, ring, best.estimate.time, Deal::ByTarget)
        };
        let candidates = if count > problem.least_devices() { &smallest[..count.min(6)] } else { &[] };
        let better = candidates.iter().filter_map(without).min_by(|a, b| key(a).cmp(&key(b)));
        match better {
            Some(better) if better.estimate.time < best.estimate.time => best = better,
            _ => return best,
        }
    }
}

/// The ring turned so that the estimate is least.
fn best_turn(problem: &Problem<'_>, start: &Dealt, deal: Deal) -> Dealt {
    let mut best = start.clone();
    for ring in rings::turns(&start.ring) {
        let limit = best.estimate.time;
        best = dealt(problem, ring, limit, deal).unwrap_or(best);
    }
    best
}

/// The time of a pass if `node` took part in `best` with one layer, and whether it was simulated (else it is a lower bound).
pub(crate) fn time_with(problem: &Problem<'_>, best: &Settled, node: usize) -> Option<(u64, bool)> {
    let count = best.layout.shares.len();
    let from =
        (0..count).filter(|&at| best.layout.shares[at].layers > 1).max_by_key(|&at| best.layout.shares[at].layers)?;
    let mut layout = best.layout.clone();
    layout.shares[from].layers -= 1;
    let place = count - 1;
    layout.shares.insert(place, Share { node, layers: 1, streamed: Vec::new(), buffer: 0 });
    layout.head += usize::from(layout.head >= place);
    let bound = problem.lower_bound(&layout.without_streams());
    if bound >= best.time {
        return Some((bound, false));
    }
    settle(problem, &layout, u64::MAX, 0, &mut Work::new(u64::MAX)).map(|settled| (settled.time, true))
}
