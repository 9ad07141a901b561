//! What a device does when its KV cache needs more than the plan gave it: which pinned block it streams next, or whether it
//! hands KV pages to a device with room. A pure function of plan and fleet, worked out beforehand, that workers follow.

use serde::{Deserialize, Serialize};

use crate::cost::{Unit, nanos};
use crate::layout::Layout;
use crate::period::Scratch;
use crate::search::Problem;
use crate::timeline::{goal_of, layout_of};
use crate::{Bytes, ContextPoint, Fleet, KV_PAGE_TOKENS, Ladder, Nanos, Plan, Relief, Step};

/// The steps of one device in the order in which they are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adaptation {
    /// The device.
    pub device: String,
    /// Steps by rising `above`.
    pub steps: Vec<Step>,
}

impl Adaptation {
    /// The steps that `plan` has its workers take on this device; those that were worked out where it has none.
    #[must_use]
    pub fn as_planned(self, plan: &Plan) -> Self {
        let planned = plan.device(&self.device).map(|(_, device)| device.steps.clone());
        match planned.filter(|steps| !steps.is_empty()) {
            Some(steps) => Self { steps, ..self },
            None => self,
        }
    }

    /// How many steps are in force when the KV cache needs `kv`. To come back, a worker waits until it needs `slack` less.
    pub fn in_force(&self, kv: Bytes, now: usize, slack: Bytes) -> usize {
        let needed = self.steps.iter().take_while(|step| kv > step.above).count();
        let kept = self.steps.iter().take_while(|step| kv + slack > step.above).count();
        if needed >= now { needed } else { kept.min(now) }
    }
}

/// The steps of every device of a plan; `None` where plan and fleet do not belong together.
pub fn adaptations(plan: &Plan, fleet: &Fleet) -> Option<Vec<Adaptation>> {
    let layout = layout_of(plan, fleet)?;
    let goal = goal_of(plan);
    let problem = Problem::new(&plan.model, fleet, &goal);
    let of = |at: usize| Adaptation {
        device: plan.devices[at].name.clone(),
        steps: steps(&problem, plan, &layout, at, HandOver::Cheapest),
    };
    Some((0..layout.shares.len()).map(of).collect())
}

/// Whether KV pages may be handed to another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandOver {
    /// Where that is the cheaper step.
    Cheapest,
    /// Not by steps that workers follow.
    Never,
}

/// The steps of the device at position `at`.
pub(crate) fn steps(problem: &Problem<'_>, plan: &Plan, layout: &Layout, at: usize, over: HandOver) -> Vec<Step> {
    let mut scratch = Scratch::default();
    let mut layout = layout.clone();
    let memory = plan.devices[at].memory;
    let mut above = memory.kv + memory.budget.saturating_sub(memory.used());
    let mut steps = Vec::new();
    let Some(mut time) = problem.evaluate(&layout, &mut scratch).map(|(_, steady)| steady.nanos()) else {
        return steps;
    };
    while let Some((step, next)) = cheapest(problem, plan, &layout, at, (above, time, over), &mut scratch) {
        let handed_over = matches!(step.relief, Relief::HandOver { .. });
        above += step.frees;
        time = step.time_per_token.0;
        steps.push(step);
        layout = next;
        // Pages elsewhere end the list: from then on the other device's room decides.
        if handed_over {
            break;
        }
    }
    steps
}

/// Times at other lengths of context, with the steps that these take: those of `points`, which know of none.
pub(crate) fn grown(problem: &Problem<'_>, plan: &Plan, layout: &Layout, points: &[ContextPoint]) -> Vec<ContextPoint> {
    let memory = crate::MemoryModel::of(plan);
    let at = |point: &ContextPoint| {
        let pages = u64::from(point.context_tokens.div_ceil(KV_PAGE_TOKENS)) * u64::from(problem.sequences);
        let mut layout = layout.clone();
        for (share, device) in layout.shares.iter_mut().zip(&plan.devices) {
            let Ok(ladder) = Ladder::of(plan, device) else { continue };
            let kv = memory.page_bytes(share.layers) * pages;
            for rung in &ladder.rungs()[..ladder.level(kv, 0, Bytes::ZERO)] {
                share.streamed.push(Unit::of(rung.block, problem.card.layers));
                share.buffer = rung.buffer.0;
            }
            share.streamed.sort();
        }
        let other = Problem::at_context(problem.card, problem.fleet, problem.goal, point.context_tokens);
        let steady = other.evaluate(&layout, &mut Scratch::default());
        steady.map_or(*point, |(_, steady)| ContextPoint { time_per_token: Nanos(steady.nanos()), ..*point })
    };
    points.iter().map(at).collect()
}

/// The step that costs least time for each byte that it frees, and the layout after it.
fn cheapest(
    problem: &Problem<'_>,
    plan: &Plan,
    layout: &Layout,
    at: usize,
    (above, before, over): (Bytes, u64, HandOver),
    scratch: &mut Scratch,
) -> Option<(Step, Layout)> {
    let mut best: Option<(u128, Step, Layout)> = None;
    let mut consider = |cost: u64, frees: u64, step: Step, next: Layout| {
        // Nanoseconds for each GiB, so that small and large blocks compare.
        let price = (u128::from(cost) << 30) / u128::from(frees.max(1));
        if best.as_ref().is_none_or(|(least, ..)| price < *least) {
            best = Some((price, step, next));
        }
    };
    if problem.fleet.nodes()[layout.shares[at].node].disk_bandwidth.is_some() {
        for unit in next_to_stream(problem, layout, at) {
            let mut next = layout.clone();
            let share = &mut next.shares[at];
            let bytes = problem.costs.bytes[unit.index()];
            let place = share.streamed.partition_point(|other| *other < unit);
            share.streamed.insert(place, unit);
            let grown = bytes.saturating_sub(share.buffer);
            share.buffer += grown;
            let frees = bytes - grown;
            // The first block only pays for its buffer; after that, what frees nothing is no step.
            if frees == 0 && share.streamed.len() > 1 {
                continue;
            }
            let Some((_, steady)) = problem.evaluate(&next, scratch) else { continue };
            let time = steady.nanos();
            let relief = Relief::Stream(unit.block(problem.card.layers));
            let step = Step { above, relief, frees: Bytes(frees), time_per_token: Nanos(time) };
            consider(time.saturating_sub(before), frees, step, next);
        }
    }
    let others = plan.devices.iter().enumerate().filter(|(other, _)| *other != at && over == HandOver::Cheapest);
    for (other, device) in others {
        let room = device.memory.budget.saturating_sub(device.memory.used());
        if room < plan_page(plan, layout.shares[at].layers) {
            continue;
        }
        let cost = remote_attention(problem, layout, at, other);
        let relief = Relief::HandOver { to: device.name.clone(), room };
        let step = Step { above, relief, frees: room, time_per_token: Nanos(before + cost) };
        consider(cost, room.0, step, layout.clone());
    }
    best.map(|(_, step, next)| (step, next))
}

/// Bytes of one KV page of a device with so many layers.
fn plan_page(plan: &Plan, layers: u32) -> Bytes {
    crate::MemoryModel::of(plan).page_bytes(layers)
}

/// The attention block and the MLP block that lie farthest from what streams already.
fn next_to_stream(problem: &Problem<'_>, layout: &Layout, at: usize) -> Vec<Unit> {
    let layers = problem.card.layers;
    let units: Vec<Unit> = layout.units_of(at, layers).into_iter().map(|(unit, _)| unit).collect();
    let streamed = &layout.shares[at].streamed;
    let places: Vec<usize> = (0..units.len()).filter(|&place| streamed.binary_search(&units[place]).is_ok()).collect();
    let distance = |place: usize| {
        let around = places.iter().map(|&other| place.abs_diff(other)).map(|apart| apart.min(units.len() - apart));
        around.min().unwrap_or(units.len())
    };
    let farthest = |attention: bool| {
        let pinned = (0..units.len()).filter(|&place| streamed.binary_search(&units[place]).is_err());
        let of_kind = pinned.filter(|&place| {
            units[place] != Unit::EMBEDDING
                && units[place] != Unit::head(layers)
                && units[place].is_attention(layers) == attention
        });
        of_kind.max_by_key(|&place| (distance(place), std::cmp::Reverse(place))).map(|place| units[place])
    };
    [farthest(true), farthest(false)].into_iter().flatten().collect()
}

/// Time that a pass takes longer when a device's attention asks another one about pages there: for each layer the queries go
/// and the partial sums come back.
fn remote_attention(problem: &Problem<'_>, layout: &Layout, at: usize, other: usize) -> u64 {
    let (here, there) = (layout.shares[at].node, layout.shares[other].node);
    let (card, sequences) = (problem.card, u64::from(problem.sequences));
    let heads = u64::from(card.heads);
    let queries = sequences * heads * u64::from(card.head_dim) * 4;
    // A partial sum, its maximum and its weight for each head.
    let answers = queries + sequences * heads * 8;
    let way = |from: usize, to: usize, bytes: u64| {
        let link = problem.fleet.link(from, to);
        nanos(bytes, link.bandwidth) + link.latency.0
    };
    u64::from(layout.shares[at].layers) * (way(here, there, queries) + way(there, here, answers))
}
