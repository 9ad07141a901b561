//! The search: rings by measure, layer counts by formula, residency and refinement by simulation; small fleets in full.

mod assign;
mod capacity;
mod climb;
mod cut_capacity;
#[cfg(test)]
mod cut_capacity_tests;
mod cuts;
mod estimate;
mod evaluator;
mod exhaustive;
mod floors;
mod left_out;
mod merit;
mod most_layers;
mod problem;
pub(crate) mod request;
mod residency;
pub(crate) mod rings;
mod stricter;
#[cfg(test)]
mod tests;
mod thorough;
mod ties;
#[cfg(test)]
mod work_tests;

use crate::layout::{Grain, Layout, Share};

pub(crate) use evaluator::{Evaluated, Evaluator};
pub(crate) use left_out::left_out;
pub(crate) use merit::Merit;
pub(crate) use problem::Problem;

use assign::{THOROUGH, assign_start};
use estimate::{Estimate, Ring, deal_by_delay, estimate};
use merit::Judge;
use problem::micro_batch_choices;
use request::{as_good_as, more_by, more_by_part};

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

/// What was found.
pub(crate) struct Found {
    /// The best, then others, the fastest first.
    pub(crate) evaluated: Vec<Evaluated>,
    /// What decided for the best of those about as fast.
    pub(crate) merit: Merit,
    /// The least measure of any.
    pub(crate) least: u64,
    /// Whether everything was tried, so that nothing better exists.
    pub(crate) complete: bool,
    /// For nodes that the best does without: the best ring found with them.
    pub(crate) with: Vec<(usize, Evaluated, Option<Merit>)>,
}

/// What one search found.
struct Searched {
    /// The fastest first.
    evaluated: Vec<Evaluated>,
    /// Whether everything was tried, so that nothing faster exists.
    complete: bool,
}

/// Work for one search that goes through everything, and for the choice among those about as fast.
const IN_FULL: u64 = 60_000_000;

/// Work for the choice among those about as fast where there are too many nodes to weigh them all.
const ON_LARGE_FLEETS: u64 = 1_000_000;

/// The best candidates; `None` where no candidate fits.
pub(crate) fn find(problem: &Problem<'_>) -> Option<Found> {
    let judge = Judge::new(problem);
    let Searched { evaluated: mut pool, mut complete } = stricter::search_each(problem);
    let small = complete;
    let choice = if small || problem.fleet.nodes().len() <= 8 { IN_FULL } else { ON_LARGE_FLEETS };
    if !complete {
        sort(&mut pool);
        if !thorough::is_thorough(problem) {
            let mut evaluator = cutting(problem);
            let cut: Vec<Evaluated> =
                pool.iter().take(CLIMBS).filter_map(|start| cuts::cut(problem, start, &mut evaluator)).collect();
            pool.extend(cut);
            sort(&mut pool);
        }
        let (_, merit) = judge.best(&pool, &mut Evaluator::new(choice))?;
        let near = more_by(as_good_as(pool[0].time), 1);
        pool.extend(stricter::with_room_for_the_longest(problem, near, merit.longest));
    }
    let mut evaluator = Evaluator::new(choice);
    let (mut best, mut merit, with) = loop {
        sort(&mut pool);
        let (index, merit) = judge.best(&pool, &mut evaluator)?;
        let best = pool[index].clone();
        let more = left_out(problem, &best.layout).into_iter();
        let with: Vec<Evaluated> =
            more.filter_map(|node| left_out::with_node(problem, &best, node, &mut evaluator)).collect();
        let least = pool[0].time;
        let useful = |one: &Evaluated| one.time <= as_good_as(least) && !pool.contains(one);
        if small || evaluator.spent() || !with.iter().any(useful) {
            break (best, merit, with);
        }
        pool.extend(with);
    };
    let least = pool[0].time;
    if small {
        let mut evaluator = Evaluator::new(IN_FULL);
        (best, merit) = ties::improve(problem, &judge, least, (best, merit), &mut evaluator);
        complete &= !evaluator.spent();
    }
    let with = left_out(problem, &best.layout).into_iter().filter_map(|node| {
        let holds = |one: &&Evaluated| one.layout.shares.iter().any(|share| share.node == node);
        let one = pool.iter().chain(&with).filter(holds).min_by_key(|one| one.time)?.clone();
        let merit = judge.merit(&one.layout, u64::MAX, &mut Evaluator::new(u64::MAX));
        Some((node, one, merit))
    });
    let with = with.collect();
    pool.retain(|one| shape(&one.layout) != shape(&best.layout));
    pool.dedup_by_key(|one| shape(&one.layout));
    pool.truncate(ALTERNATIVES);
    pool.insert(0, best);
    Some(Found { evaluated: pool, merit, least, complete, with })
}

/// The fastest first, each once.
fn sort(evaluated: &mut Vec<Evaluated>) {
    evaluated.sort_by_cached_key(Evaluated::rank);
    evaluated.dedup();
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
        let of = |(&node, &layers)| Share { node, blocks: 2 * layers, streamed: Vec::new(), buffer: 0 };
        let shares = self.ring.order.iter().zip(&self.estimate.layers).map(of).collect();
        let Ring { segments, head, micro_batches, .. } = self.ring;
        Layout { shares, segments, grain: Grain::Layer, head, micro_batches }
    }
}

/// Work for one search by formula and simulation.
fn effort(problem: &Problem<'_>) -> Evaluator {
    let size = problem.fleet.nodes().len() as u64 * u64::from(problem.card.layers);
    Evaluator::new(200_000 + 250 * size)
}

/// Work for cuts inside layers: less of it on large fleets, where it comes once.
fn cutting(problem: &Problem<'_>) -> Evaluator {
    let size = problem.fleet.nodes().len() as u64 * u64::from(problem.card.layers);
    Evaluator::new(if thorough::is_thorough(problem) { 40_000 + 250 * size } else { 4_000 + 16 * size })
}

/// The fastest candidates; none where no candidate fits, or where no estimate is below `limit`.
fn search(problem: &Problem<'_>, limit: u64, evaluator: &mut Evaluator) -> Searched {
    let narrow = thorough::is_narrow(problem);
    // The formula is a little less exact than what is simulated.
    let mut dealt = estimates(problem, if limit == u64::MAX { limit } else { more_by_part(limit, 8) });
    dealt.sort_by_cached_key(key);
    if narrow && let Some(least) = dealt.first().map(|dealt| dealt.estimate.time) {
        dealt.retain(|dealt| dealt.estimate.time <= more_by_part(least, 8));
    }
    dealt.dedup_by(|a, b| a.ring == b.ring);
    let mut evaluated: Vec<Evaluated> = Vec::new();
    // The formula flatters rings of several segments: plain pipelines are looked at in any case.
    let plain = dealt.iter().skip(4 * REFINED).filter(|dealt| dealt.ring.segments == 1).take(REFINED);
    for dealt in dealt.iter().take(4 * REFINED).chain(plain) {
        evaluated.extend(assign_start(problem, &dealt.layout(), limit, 0, evaluator));
    }
    if evaluated.is_empty() && limit == u64::MAX {
        // The formula is optimistic about whole blocks, and knows of no cuts: fall back to what surely fits.
        evaluated
            .extend(some_layout(problem).and_then(|some| assign_start(problem, &some, u64::MAX, THOROUGH, evaluator)));
    }
    sort(&mut evaluated);
    if narrow && let Some(least) = evaluated.first().map(|one| one.time) {
        evaluated.retain(|one| one.time <= more_by_part(least, 16));
    }
    // Where simulation agrees with the best that the formula hopes for, there is nothing left to climb to.
    let hoped = dealt.iter().map(|dealt| dealt.estimate.time).min().unwrap_or(0);
    let mut refined: Vec<Evaluated> = Vec::new();
    for start in evaluated.iter().take(REFINED) {
        refined.extend(assign_start(problem, &start.layout, limit, THOROUGH, evaluator));
    }
    refined.sort_by_cached_key(Evaluated::rank);
    for start in refined.iter_mut().take(CLIMBS) {
        if start.time > hoped {
            *start = climb::climb(problem, start.clone(), hoped, evaluator);
        }
    }
    let small = exhaustive::is_small(problem);
    if !small && thorough::is_thorough(problem) {
        let mut evaluator = cutting(problem);
        let cut: Vec<Evaluated> =
            refined.iter().take(CLIMBS).filter_map(|start| cuts::cut(problem, start, &mut evaluator)).collect();
        refined.extend(cut);
    }
    let mut complete = false;
    if limit == u64::MAX && small {
        let best = refined.iter().min_by_key(|evaluated| evaluated.time).cloned();
        let mut evaluator = Evaluator::new(IN_FULL);
        refined.extend(exhaustive::improve(problem, best, &mut evaluator));
        complete = !evaluator.spent();
    }
    refined.extend(evaluated);
    sort(&mut refined);
    Searched { evaluated: refined, complete }
}

type Shape = (Vec<(usize, u32)>, u32, u32);

/// What people see of a layout: alternatives differ in it.
fn shape(layout: &Layout) -> Shape {
    (layout.shares.iter().map(|share| (share.node, share.blocks)).collect(), layout.segments, layout.micro_batches)
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

/// Estimated rings below `most`: for each number of segments and micro-batches the best few sets of nodes, thinned and turned.
fn estimates(problem: &Problem<'_>, most: u64) -> Vec<Dealt> {
    let sets: Vec<Vec<usize>> = rings::more_sets(problem).iter().map(|set| rings::cheap_order(problem, set)).collect();
    let mut all = Vec::new();
    let (mut delayed, mut pinned): (Vec<Dealt>, Vec<Dealt>) = (Vec::new(), Vec::new());
    for micro_batches in micro_batch_choices(problem.sequences, problem.fleet.nodes().len()) {
        for segments in segment_choices(problem) {
            // The two best; a ring that does not beat the second is not worked out.
            let mut found: Vec<Dealt> = Vec::new();
            for order in sets.iter().filter(|order| segments == 1 || order.len() > 1 || problem.goal.segments.is_some())
            {
                let ring = Ring { order: order.clone(), head: order.len() - 1, segments, micro_batches };
                let limit = found.get(1).map_or(most, |second| second.estimate.time);
                if (segments == 1 || problem.goal.segments.is_some()) && micro_batches == 1 {
                    for (deal, best) in [(Deal::ByDelay, &mut delayed), (Deal::InMemory, &mut pinned)] {
                        best.extend(dealt(problem, ring.clone(), most, deal));
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
    if all.is_empty() && most == u64::MAX {
        all.extend(capacity::some_ring(problem).map(|(ring, estimate)| Dealt { ring, estimate }));
    }
    all
}

/// Whether any candidate fits, however slow.
pub(crate) fn fits(problem: &Problem<'_>) -> bool {
    some_layout(problem).is_some()
}

/// A candidate that fits, however slow: of whole layers if they do, else with layers cut.
fn some_layout(problem: &Problem<'_>) -> Option<Layout> {
    let whole = capacity::some_ring(problem).map(|(ring, estimate)| Dealt { ring, estimate }.layout());
    whole.or_else(|| cut_capacity::some_cut(problem))
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
