//! What a device does when its KV cache needs more than the plan gave it: which pinned block it streams next, and whether it
//! hands KV pages to a device with room before. A pure function of plan and fleet, worked out beforehand, that workers follow.

use serde::{Deserialize, Serialize};

use crate::cost::{Unit, nanos};
use crate::layout::{Layout, Share};
use crate::period::Scratch;
use crate::search::{Evaluator, Problem};
use crate::timeline::{goal_of, layout_of};
use lime_plan::{
    Arithmetic, Bytes, ContextPoint, DeviceMemory, DeviceSteps, Fleet, KV_PAGE_TOKENS, MemoryModel, Nanos, Plan,
    PlanDraft, Relief, Step, StepsInForce,
};

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
        steps: with_hand_over(&problem, plan, &layout, at, steps(&problem, plan, &layout, at)),
    };
    Some((0..layout.shares.len()).map(of).collect())
}

/// The steps of the device at position `at` that stream a block.
pub(crate) fn steps(problem: &Problem<'_>, plan: &PlanDraft, layout: &Layout, at: usize) -> Vec<Step> {
    // Only exact arithmetic gives blocks up.
    if plan.arithmetic != Arithmetic::Exact {
        return Vec::new();
    }
    let mut evaluator = Evaluator::new(u64::MAX);
    let mut layout = layout.clone();
    let mut above = base(plan.devices[at].memory);
    let mut steps = Vec::new();
    let Some(mut time) = evaluator.pass(problem, &layout) else {
        return steps;
    };
    while let Some((step, next)) = cheapest(problem, &layout, at, (above, time), &mut evaluator) {
        above += step.frees;
        time = step.time_per_token.0;
        steps.push(step);
        layout = next;
    }
    steps
}

/// The share of a device that has made room for a longer KV cache.
pub(crate) struct Stretched {
    pub(crate) share: Share,
    /// Bytes that its steps freed.
    pub(crate) frees: u64,
}

/// The device at `at` after the steps that free `missing` bytes, those of [`steps`]; with all that there are where these do not.
pub(crate) fn stretched(
    problem: &Problem<'_>,
    layout: &Layout,
    at: usize,
    missing: u64,
    evaluator: &mut Evaluator,
) -> Stretched {
    let (mut layout, mut frees, mut time) = (layout.clone(), 0, None);
    while frees < missing {
        let Some(before) = time.or_else(|| evaluator.pass(problem, &layout)) else { break };
        let Some((step, next)) = cheapest(problem, &layout, at, (Bytes::ZERO, before), evaluator) else { break };
        frees += step.frees.0;
        time = Some(step.time_per_token.0);
        layout = next;
    }
    Stretched { share: layout.shares.swap_remove(at), frees }
}

/// KV cache that fits before any step.
fn base(memory: DeviceMemory) -> Bytes {
    memory.kv + memory.budget.saturating_sub(memory.used())
}

/// `steps` of the device at `at`, with one that hands pages to a device with room where that is cheaper than the steps that it
/// stands for: before the first of those.
pub(crate) fn with_hand_over(
    problem: &Problem<'_>,
    plan: &PlanDraft,
    layout: &Layout,
    at: usize,
    mut steps: Vec<Step>,
) -> Vec<Step> {
    let memory = MemoryModel::of(plan);
    let attentions = layout.attentions();
    let (base, worst) = (base(plan.devices[at].memory), memory.kv(attentions[at]));
    // A device that keeps pages knows of no windows and caps.
    if plan.arithmetic != Arithmetic::Exact || !problem.card.features.attends_plainly() {
        return steps;
    }
    // What is never asked for is not reserved; where the plan has room for all, what memory pressure may ask for is not known.
    let layers = attentions[at];
    let (page, exchange) = (memory.page_bytes(layers), memory.exchange(layers));
    let missing = if worst > base { worst - base + exchange } else { worst };
    let mut scratch = Scratch::default();
    let Some(before) = problem.evaluate(layout, &mut scratch).map(|(_, steady)| steady.nanos()) else { return steps };
    let times: Vec<u64> = [before].into_iter().chain(steps.iter().map(|step| step.time_per_token.0)).collect();
    let rooms: Vec<Bytes> =
        steps.iter().map(|step| step.above).chain(steps.last().map(|step| step.above + step.frees)).collect();

    let mut best: Option<(usize, u64, Step)> = None;
    for (other, device) in plan.devices.iter().enumerate().filter(|(other, _)| *other != at) {
        // A device whose own cache will need its room, or that hands pages over itself, lends none.
        let longest = memory.kv(attentions[other]);
        let free = device.memory.budget.saturating_sub(device.memory.used()).saturating_sub(exchange);
        let pages = free.min(missing).0.div_ceil(page.0.max(1)).min(free.0 / page.0.max(1));
        let room = Bytes(page.0 * pages).min(worst);
        let frees = room.saturating_sub(exchange);
        if device.memory.kv < longest || frees == Bytes::ZERO {
            continue;
        }
        // As if a row of a prompt came with every token that is drawn: long prompts are what fills the cache, and their rows are
        // asked about as well.
        let costs = remote_attention(problem, layout, at, other, (2 * u64::from(problem.sequences), room));
        let chunk = remote_attention(problem, layout, at, other, (u64::from(plan.serving.prefill_chunk_tokens), room));
        // For each step before which the pages could go: what streaming takes to free as much.
        let worth = |from: usize| {
            let enough = rooms.iter().position(|room| *room >= rooms[from] + frees);
            times[enough.unwrap_or(steps.len())].saturating_sub(times[from])
        };
        let pays = |from: usize| costs < worth(from) && chunk <= MOST_OF_A_CHUNK * worth(from);
        let Some(from) = (0..steps.len()).find(|&from| pays(from)) else { continue };
        if best.as_ref().is_none_or(|(place, least, _)| (from, costs) < (*place, *least)) {
            let relief = Relief::HandOver { to: device.name.clone(), room, costs: Nanos(costs) };
            let time_per_token = Nanos(times[from] + costs);
            best = Some((from, costs, Step { above: rooms[from], relief, frees, time_per_token }));
        }
    }
    if let Some((from, costs, step)) = best {
        for later in &mut steps[from..] {
            later.above += step.frees;
            later.time_per_token = later.time_per_token + Nanos(costs);
        }
        steps.insert(from, step);
    }
    steps
}

/// Gives each device of `plan` its steps, and those with room what others count on.
pub(crate) fn give_steps(problem: &Problem<'_>, plan: &mut PlanDraft, layout: &Layout) {
    let memory = MemoryModel::of(plan);
    let sizes = |of: &dyn Fn(u32) -> Bytes| -> Vec<Bytes> { layout.attentions().into_iter().map(of).collect() };
    let (kv, exchange) = (sizes(&|layers| memory.kv(layers)), sizes(&|layers| memory.exchange(layers)));
    let grows = |plan: &PlanDraft, at: usize| plan.devices[at].memory.kv < kv[at];
    // First those whose cache outgrows their memory: what they count on, the others know of.
    for at in (0..plan.devices.len()).filter(|&at| grows(plan, at)).collect::<Vec<_>>() {
        let steps = with_hand_over(problem, plan, layout, at, steps(problem, plan, layout, at));
        for step in &steps {
            if let Relief::HandOver { to, room, .. } = &step.relief
                && let Some(keeper) = plan.devices.iter_mut().find(|device| device.name == *to)
            {
                keeper.memory.lent += *room + exchange[at];
            }
        }
        plan.devices[at].steps = steps;
    }
    // A device that reads nothing and has room for all has no weight store either.
    for at in 0..plan.devices.len() {
        if !grows(plan, at) && !layout.shares[at].streamed.is_empty() {
            plan.devices[at].steps = steps(problem, plan, layout, at);
        }
    }
}

/// Times at other lengths of context, with the steps that these take: those of `points`, which know of none.
pub(crate) fn grown(
    problem: &Problem<'_>,
    plan: &PlanDraft,
    layout: &Layout,
    points: &[ContextPoint],
) -> Vec<ContextPoint> {
    let memory = lime_plan::MemoryModel::of(plan);
    let at = |point: &ContextPoint| {
        let pages = u64::from(point.context_tokens.div_ceil(KV_PAGE_TOKENS)) * u64::from(problem.sequences);
        let (mut layout, mut remote) = (layout.clone(), 0);
        let attentions = layout.attentions();
        for ((share, device), attentions) in layout.shares.iter_mut().zip(&plan.devices).zip(attentions) {
            let Ok(steps) = DeviceSteps::of(plan, device) else { continue };
            let kv = memory.page_bytes(attentions) * pages;
            let planned = steps.hand_over().map_or(Nanos::ZERO, |over| over.costs);
            let in_force = steps.choose(kv, StepsInForce::default(), planned);
            remote += if in_force.remote { planned.0 } else { 0 };
            for step in &steps.stream_steps()[..in_force.level] {
                share.streamed.push(Unit::of(step.block, problem.card.layers));
                share.buffer = step.buffer.0;
            }
            share.streamed.sort();
        }
        let other = Problem::at_context(problem.card, problem.fleet, problem.goal, point.context_tokens);
        let steady = other.evaluate(&layout, &mut Scratch::default());
        steady.map_or(*point, |(_, steady)| ContextPoint { time_per_token: Nanos(steady.nanos() + remote), ..*point })
    };
    points.iter().map(at).collect()
}

/// The step that costs least time for each byte that it frees, and the layout after it.
fn cheapest(
    problem: &Problem<'_>,
    layout: &Layout,
    at: usize,
    (above, before): (Bytes, u64),
    evaluator: &mut Evaluator,
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
            let Some(time) = evaluator.pass(problem, &next) else { continue };
            let relief = Relief::Stream(unit.block(problem.card.layers));
            let step = Step { above, relief, frees: Bytes(frees), time_per_token: Nanos(time) };
            consider(time.saturating_sub(before), frees, step, next);
        }
    }
    best.map(|(_, step, next)| (step, next))
}

/// The attention block and the MLP block that lie farthest from what streams already.
fn next_to_stream(problem: &Problem<'_>, layout: &Layout, at: usize) -> Vec<Unit> {
    let layers = problem.card.layers;
    let units: Vec<Unit> = layout.units_of(at, layers);
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

/// A chunk of a prompt, too, must not wait for remote pages by more than this many times what streaming instead would take:
/// blocks that stream are read once for all of its rows.
const MOST_OF_A_CHUNK: u64 = 2;

/// Time that a pass of so many rows takes longer when a device's attention asks another one about `room` of pages there: for each
/// layer the queries go and where their heads stand comes back.
fn remote_attention(
    problem: &Problem<'_>,
    layout: &Layout,
    at: usize,
    other: usize,
    (rows, room): (u64, Bytes),
) -> u64 {
    let (here, there) = (layout.shares[at].node, layout.shares[other].node);
    let card = problem.card;
    let heads = u64::from(card.heads);
    let queries = rows * heads * u64::from(card.head_dim) * 4;
    // The weighted values of each head, its greatest score and its sum of weights.
    let answers = queries + rows * heads * 8;
    let way = |from: usize, to: usize, bytes: u64| {
        let link = problem.fleet.link(from, to);
        nanos(bytes, link.bandwidth) + link.latency.0
    };
    let nodes = problem.fleet.nodes();
    let read = |node: usize| nanos(room.0, nodes[node].memory_bandwidth);
    let asked = u64::from(layout.attentions()[at]) * (way(here, there, queries) + way(there, here, answers));
    asked + read(there).saturating_sub(read(here))
}
