//! From a model card, a fleet and a goal to a plan, in every form of the model that may be used.

use std::borrow::Cow;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::cost::Unit;
use crate::layout::Layout;
use crate::online::{give_steps, grown};
use crate::predict::predict;
use crate::refusal::Refusal;
use crate::search::{Evaluated, Found, Merit, Problem, find, fits, left_out};
use lime_plan::{
    Alternative, Arithmetic, BlockRange, Bytes, DeviceIndex, DeviceMemory, DevicePlan, Encoding, Fleet, Goal,
    MOST_PROMPT_PASSES, MemoryModel, ModelCard, Nanos, NodeProfile, Outlook, PLAN_VERSION, PlacedBlock, Plan,
    PlanDraft, PlanError, Prediction, RejectedNode, Residency,
};

/// The forms of the model that `goal` allows on `fleet`, the largest first: as it is, and compact where every node is known to
/// compute from that.
pub(crate) fn forms<'a>(card: &'a ModelCard, fleet: &Fleet, goal: &Goal) -> Vec<Cow<'a, ModelCard>> {
    let able =
        goal.arithmetic == Arithmetic::Exact && fleet.nodes().iter().all(|node| node.compact_bandwidth.is_some());
    let compact = card.compacted().filter(|_| able && goal.encoding != Some(Encoding::Raw));
    let raw = (goal.encoding != Some(Encoding::Compact) || compact.is_none()).then_some(Cow::Borrowed(card));
    raw.into_iter().chain(compact.map(Cow::Owned)).collect()
}

/// Compact weights are made from raw ones before they are served: that much faster they must be, in percent.
const COMPACT_GAIN: u64 = 3;

/// Whether `other` is worth more than `plan`, which is there without further ado: it misses fewer wishes, is faster by
/// that much, or about as fast and that much faster at the longest context.
fn beats(other: &Plan, plan: &Plan) -> bool {
    let missed = |plan: &Plan| plan.outlook.as_ref().map_or(0, |outlook| outlook.missed.len());
    if missed(other) != missed(plan) {
        return missed(other) < missed(plan);
    }
    let times = |plan: &Plan| {
        let prediction = plan.outlook.as_ref().map(|outlook| &outlook.prediction);
        let time = prediction.map_or(u64::MAX, |prediction| prediction.request_time.0);
        let longest = prediction.and_then(|prediction| prediction.growth.last());
        let pass = prediction.map_or(u64::MAX, |prediction| prediction.time_per_token.0);
        (time, longest.map_or(pass, |point| point.time_per_token.0))
    };
    let gains = |other: u64, plan: u64| u128::from(other) * 100 < u128::from(plan) * u128::from(100 - COMPACT_GAIN);
    let ((time, longest), (plan_time, plan_longest)) = (times(other), times(plan));
    let as_good = plan_time.saturating_add(plan_time / 100);
    gains(time, plan_time) || time <= as_good && !gains(plan_time, time) && gains(longest, plan_longest)
}

/// A plan, or `None` where nothing fits.
pub(crate) fn try_plan(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Result<Option<Plan>, Refusal> {
    // A bound above what there is bounds nothing: the same plan, byte for byte.
    let most_devices = goal.most_devices.filter(|most| (*most as usize) < fleet.nodes().len());
    let goal = Goal { most_devices, ..goal.clone() };
    let mut best: Option<Plan> = None;
    for form in forms(card, fleet, &goal) {
        let found = plan_form(&form, fleet, &goal)?;
        best = match (best, found) {
            (Some(plan), Some(other)) if !beats(&other, &plan) => Some(plan),
            (plan, other) => other.or(plan),
        };
    }
    Ok(best)
}

/// A plan for the model in exactly this form.
fn plan_form(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Result<Option<Plan>, Refusal> {
    goal.check(card)?;
    check_size(fleet, goal)?;
    let fleet = &*offered(fleet, goal);
    let problem = Problem::new(card, fleet, goal);
    let Some(found) = find(&problem) else { return Ok(None) };
    let Some((best, others)) = found.evaluated.split_first() else { return Ok(None) };
    let Some(prediction) = predict(&problem, &best.layout) else { return Ok(None) };
    let outlook = Outlook {
        objective: goal.objective,
        micro_batches: best.layout.micro_batches,
        prompt_passes: if best.together > 1 && best.layout.micro_batches == 1 { MOST_PROMPT_PASSES } else { 1 },
        complete: found.complete,
        least_request_time: problem.request.of_measure(found.least),
        missed: missed(goal, &prediction),
        prediction,
        rejected: rejected(&problem, &found, best),
        alternatives: others.iter().map(|other| alternative(&problem, other)).collect(),
    };
    Ok(Some(assemble(&problem, &best.layout, outlook)?))
}

/// Whether anything fits at all.
pub(crate) fn can_fit(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> bool {
    goal.check(card).is_ok()
        && check_size(fleet, goal).is_ok()
        && forms(card, fleet, goal).iter().any(|form| fits(&Problem::new(form, &offered(fleet, goal), goal)))
}

fn check_size(fleet: &Fleet, goal: &Goal) -> Result<(), Refusal> {
    match fleet.nodes().len() {
        0 => Err(Refusal::Empty),
        nodes if nodes < goal.least_devices as usize => Err(Refusal::TooFew { least: goal.least_devices, nodes }),
        _ => Ok(()),
    }
}

/// The fleet as the goal lets it be used: without its disks where nothing may be read from them.
fn offered<'a>(fleet: &'a Fleet, goal: &Goal) -> Cow<'a, Fleet> {
    match goal.may_stream() {
        false => Cow::Owned(fleet.map_nodes(|node| NodeProfile { disk_bandwidth: None, ..node.clone() })),
        true => Cow::Borrowed(fleet),
    }
}

fn assemble(problem: &Problem<'_>, layout: &Layout, outlook: Outlook) -> Result<Plan, PlanError> {
    let goal = problem.goal;
    let memory = MemoryModel { card: problem.card, serving: goal.serving, kv: goal.kv, residual: goal.residual };
    let mut ranges = vec![Vec::new(); layout.shares.len()];
    for (_, at, start, end) in layout.visits() {
        ranges[at].push(BlockRange::new(start, end));
    }
    let attentions = layout.attentions();
    let device = |(at, ranges): (usize, Vec<BlockRange>)| {
        let share = &layout.shares[at];
        let node = &problem.fleet.nodes()[share.node];
        let place = |unit: Unit| {
            let streamed = share.streamed.binary_search(&unit).is_ok();
            let residency = if streamed { Residency::Streamed } else { Residency::Pinned };
            PlacedBlock { block: unit.block(problem.card.layers), residency }
        };
        let blocks: Vec<PlacedBlock> = layout.units_of(at, problem.card.layers).into_iter().map(place).collect();
        let mut memory = DeviceMemory {
            prefetch: Bytes(share.buffer),
            overhead: node.overhead,
            budget: node.memory,
            ..memory.device(&blocks)
        };
        if memory.used() > memory.budget {
            // The longest requests fit when blocks give way: see the steps.
            memory.kv = problem.expected_kv(attentions[at]);
        }
        DevicePlan { name: node.name.clone(), ranges, blocks, memory, steps: Vec::new() }
    };
    let mut plan = PlanDraft {
        version: PLAN_VERSION,
        input_hash: input_hash(problem),
        model: ModelCard { compact: None, ..problem.card.clone() },
        arithmetic: goal.arithmetic,
        residual: goal.residual,
        kv: goal.kv,
        serving: goal.serving,
        segments: layout.segments,
        devices: ranges.into_iter().enumerate().map(device).collect(),
        head: DeviceIndex(layout.head as u32),
        outlook: Some(outlook),
    };
    give_steps(problem, &mut plan, layout);
    let grown = plan.outlook.as_ref().map(|outlook| grown(problem, &plan, layout, &outlook.prediction.growth));
    if let (Some(outlook), Some(grown)) = (&mut plan.outlook, grown) {
        outlook.prediction.growth = grown;
    }
    plan.try_into()
}

#[derive(Serialize)]
struct Inputs<'a> {
    model: &'a ModelCard,
    fleet: &'a Fleet,
    goal: &'a Goal,
    /// Prompt and answer of a typical request, those that are usual where the goal names none.
    request: [u32; 2],
}

fn input_hash(problem: &Problem<'_>) -> String {
    let request = [problem.goal.prompt(), problem.goal.answer()];
    let inputs = Inputs { model: problem.card, fleet: problem.fleet, goal: problem.goal, request };
    let json = serde_json::to_vec(&inputs).expect("numbers, texts and lists always have a JSON form");
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn alternative(problem: &Problem<'_>, evaluated: &Evaluated) -> Alternative {
    let shares = &evaluated.layout.shares;
    Alternative {
        devices: shares.iter().map(|share| problem.fleet.nodes()[share.node].name.clone()).collect(),
        layers: evaluated.layout.attentions(),
        segments: evaluated.layout.segments,
        micro_batches: evaluated.layout.micro_batches,
        time_per_token: Nanos(evaluated.pass),
        request_time: problem.request.total(evaluated.pass, evaluated.prompts),
    }
}

fn missed(goal: &Goal, prediction: &Prediction) -> Vec<String> {
    let wishes = [
        ("a token", goal.wished_time_per_token, prediction.time_per_token),
        ("the first token", goal.wished_time_to_first_token, prediction.time_to_first_token),
    ];
    let late = wishes.into_iter().filter_map(|(what, wish, found)| Some((what, wish?, found)));
    late.filter(|(_, wish, found)| found > wish)
        .map(|(what, wish, found)| {
            let (wish, found) = wish.apart(found);
            format!("{what} within {wish} was wished for, the best plan takes {found}")
        })
        .collect()
}

fn rejected(problem: &Problem<'_>, found: &Found, best: &Evaluated) -> Vec<RejectedNode> {
    let out = left_out(problem, &best.layout).into_iter();
    out.map(|node| RejectedNode {
        name: problem.fleet.nodes()[node].name.clone(),
        reason: why_left_out(problem, found, best, node),
    })
    .collect()
}

/// Why the best ring does without `node`: what is said of times is of rings that were simulated.
fn why_left_out(problem: &Problem<'_>, found: &Found, best: &Evaluated, node: usize) -> String {
    let room = problem.room_at_worst(node, 1, false, false);
    let smallest = problem.attention_bytes.min(problem.mlp_bytes);
    let devices = best.layout.shares.len();
    if devices == problem.most_devices() && problem.goal.most_devices.is_some() {
        return format!("no more than {devices} may take part");
    }
    if devices == problem.most_devices() && devices == problem.card.layers as usize {
        return format!("every device holds a layer, and the model has {devices}");
    }
    if room <= 0 {
        let memory = problem.fleet.nodes()[node].memory;
        return format!("{memory} of memory leave no room beside buffers, KV cache and overhead");
    }
    if (room as u64) < smallest {
        let (room, smallest) = Bytes(room as u64).apart(Bytes(smallest));
        return format!("{room} are left there for weights, less than one block of {smallest}");
    }
    match found.with.iter().find(|(other, ..)| *other == node) {
        Some((_, with, merit)) => compared(problem, (with, *merit), (best, found.merit)),
        None => {
            let instead = problem.request.total(best.pass, best.prompts);
            format!("no place in the ring was found for it that fits; without it a request takes {instead}")
        }
    }
}

/// The best ring found with a node, and the plan without it, in words.
fn compared(
    problem: &Problem<'_>,
    (with, merit): (&Evaluated, Option<Merit>),
    (best, without): (&Evaluated, Merit),
) -> String {
    let total = |one: &Evaluated| problem.request.total(one.pass, one.prompts);
    let (with_it, instead) = total(with).apart(total(best));
    let mut text = match total(with) == total(best) {
        true => format!("with it a request takes {with_it}, as without it"),
        false => format!("with it the best ring that was found takes {with_it} for a request instead of {instead}"),
    };
    if with.time > best.time {
        return text;
    }
    // About as fast: what decided.
    let context = problem.goal.serving.max_context_tokens;
    let decided = match merit {
        None => Some(format!("but cannot hold {context} tokens of context")),
        Some(merit) if merit.longest > without.longest => {
            let (with_it, instead) = Nanos(merit.longest).apart(Nanos(without.longest));
            Some(format!("and {with_it} instead of {instead} at {context} tokens of context"))
        }
        Some(merit) if merit.longest == without.longest && merit.first_token > without.first_token => {
            let (with_it, instead) = Nanos(merit.first_token).apart(Nanos(without.first_token));
            Some(format!("and its first token comes after {with_it} instead of {instead}"))
        }
        Some(merit) if merit.longest == without.longest && merit.first_token == without.first_token => {
            let (more, less) = (with.layout.shares.len(), best.layout.shares.len());
            (more > less).then(|| format!("so {less} devices are enough"))
        }
        Some(_) => None,
    };
    if let Some(decided) = decided {
        text.push_str(", ");
        text.push_str(&decided);
    }
    text
}
