//! The entry: a model card, a fleet and a goal in, a plan out, or why there is none and what would fit. Every suggestion was planned.

use std::borrow::Cow;

use crate::planning::{can_fit, forms, try_plan};
use crate::refusal::{MissingMemory, Refusal, Suggestion};
use lime_plan::{Bytes, Fleet, Goal, KV_PAGE_TOKENS, Link, MemoryModel, ModelCard, Nanos, NodeProfile, Offload, Plan};

/// Finds who holds what so that the goal is met best.
///
/// # Errors
/// A [`Refusal`] that says what is wrong with the inputs, or how much memory is missing where and what would fit.
pub fn plan(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Result<Plan, Refusal> {
    plan_or_suggest(card, fleet, goal, &[])
}

/// As [`plan`]; a refusal may also suggest one of `others`: the same model in other precisions for which there are files.
///
/// # Errors
/// As [`plan`].
pub fn plan_or_suggest(card: &ModelCard, fleet: &Fleet, goal: &Goal, others: &[ModelCard]) -> Result<Plan, Refusal> {
    let found = try_plan(card, fleet, goal)?;
    // What is missing and what would fit is said of the smallest form that may be used.
    found.ok_or_else(|| refuse(forms(card, fleet, goal).last().map_or(card, Cow::as_ref), fleet, goal, others))
}

const MOST_SUGGESTIONS: usize = 3;

/// A disk that is suggested where a node has none: what a cheap NVMe drive reads.
const SUGGESTED_DISK: u64 = 1_000_000_000;

fn refuse(card: &ModelCard, fleet: &Fleet, goal: &Goal, others: &[ModelCard]) -> Refusal {
    let memory = MemoryModel { card, serving: goal.serving, kv: goal.kv, residual: goal.residual };
    let (mut missing, mut node) = least_missing(card, fleet, goal);
    let mut fits = ways(card, fleet, goal, others);
    let any_number = Goal { least_devices: 1, ..goal.clone() };
    if goal.least_devices > 1 && missing == Bytes::ZERO {
        (missing, node) = least_missing(card, fleet, &any_number);
    }
    if goal.least_devices > 1 && fits.is_empty() {
        fits = ways(card, fleet, &any_number, others);
        for suggestion in &mut fits {
            suggestion.change.push_str(" and no least number of devices");
        }
    }
    Refusal::Infeasible(MissingMemory {
        missing,
        node,
        weights: card.weight_bytes(),
        kv: memory.kv(card.layers),
        memory: fleet.nodes().iter().map(|node| node.memory).sum(),
        fits,
    })
}

/// Changes that were planned and fit, the least first.
fn ways(card: &ModelCard, fleet: &Fleet, goal: &Goal, others: &[ModelCard]) -> Vec<Suggestion> {
    let ways = [
        reading_from_disk(card, fleet, goal),
        fewer_devices(card, fleet, goal),
        shorter_context(card, fleet, goal),
        fewer_requests(card, fleet, goal),
        a_disk(card, fleet, goal),
        others.iter().find_map(|other| other_precision(other, fleet, goal)),
        one_more_node(card, fleet, goal),
    ];
    ways.into_iter().flatten().take(MOST_SUGGESTIONS).collect()
}

/// The least `value` in `low..=high` for which `holds`, if any; `holds` must stay true once it is.
fn least(low: u64, high: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (low, high);
    if !holds(high) {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    Some(high)
}

fn least_missing(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> (Bytes, String) {
    let mut largest: Vec<&NodeProfile> = fleet.nodes().iter().collect();
    largest.sort_by_key(|node| (std::cmp::Reverse(node.memory), &node.name));
    let page = Bytes::kib(4).0;
    let found = largest.into_iter().take(4).filter_map(|node| {
        let with = |pages: u64| {
            fleet.map_nodes(|other| match other.name == node.name {
                true => NodeProfile { memory: other.memory + Bytes(pages * page), ..other.clone() },
                false => other.clone(),
            })
        };
        let pages = least(1, Bytes::gib(8192).0 / page, |pages| can_fit(card, &with(pages), goal))?;
        Some((Bytes(pages * page), node.name.clone()))
    });
    found.min().unwrap_or_default()
}

fn planned(card: &ModelCard, fleet: &Fleet, goal: &Goal, change: impl Fn(&Plan) -> String) -> Option<Suggestion> {
    let plan = try_plan(card, fleet, goal).ok().flatten()?;
    let time_per_token = plan.outlook.as_ref()?.prediction.time_per_token;
    Some(Suggestion { change: change(&plan), time_per_token })
}

fn reading_from_disk(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Option<Suggestion> {
    let with = Goal { offload: Offload::Auto, ..goal.clone() };
    let allowed = goal.offload == Offload::Never && can_fit(card, fleet, &with);
    allowed.then(|| planned(card, fleet, &with, |_| "reading weights from disk (offload policy Auto)".to_owned()))?
}

fn fewer_devices(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Option<Suggestion> {
    let with = Goal { least_devices: 1, ..goal.clone() };
    let asked = goal.least_devices > 1 && can_fit(card, fleet, &with);
    let change = |plan: &Plan| {
        let count = plan.devices.len();
        format!("{count} {}", if count == 1 { "device alone" } else { "devices" })
    };
    asked.then(|| planned(card, fleet, &with, change))?
}

fn shorter_context(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Option<Suggestion> {
    let asked = u64::from(goal.serving.max_context_tokens.div_ceil(KV_PAGE_TOKENS));
    let with = |pages: u64| {
        let mut goal = goal.clone();
        goal.serving.max_context_tokens = pages as u32 * KV_PAGE_TOKENS;
        goal
    };
    // The fewest pages to give up.
    let given_up = least(1, asked.checked_sub(2)?, |gone| can_fit(card, fleet, &with(asked - gone)))?;
    let goal = with(asked - given_up);
    planned(card, fleet, &goal, |_| format!("a context of {} tokens", goal.serving.max_context_tokens))
}

fn fewer_requests(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Option<Suggestion> {
    let asked = u64::from(goal.serving.max_concurrent_requests);
    let with = |requests: u64| {
        let mut goal = goal.clone();
        goal.serving.max_concurrent_requests = requests as u32;
        goal
    };
    let given_up = least(1, asked.checked_sub(1)?, |gone| can_fit(card, fleet, &with(asked - gone)))?;
    let goal = with(asked - given_up);
    let requests = goal.serving.max_concurrent_requests;
    let plural = if requests == 1 { "request" } else { "requests" };
    planned(card, fleet, &goal, |_| format!("{requests} {plural} at once"))
}

fn a_disk(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Option<Suggestion> {
    let mut without: Vec<&NodeProfile> = fleet.nodes().iter().filter(|node| node.disk_bandwidth.is_none()).collect();
    without.sort_by_key(|node| (std::cmp::Reverse(node.memory), &node.name));
    without.into_iter().take(4).find_map(|node| {
        let with = fleet.map_nodes(|other| match other.name == node.name {
            true => NodeProfile { disk_bandwidth: Some(SUGGESTED_DISK), ..other.clone() },
            false => other.clone(),
        });
        if !can_fit(card, &with, goal) {
            return None;
        }
        planned(card, &with, goal, |_| format!("a disk that reads 1 GB/s on {:?}", node.name))
    })
}

fn other_precision(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Option<Suggestion> {
    if !can_fit(card, fleet, goal) {
        return None;
    }
    planned(card, fleet, goal, |_| format!("{} ({}, {})", card.name, card.format, card.weight_bytes()))
}

fn one_more_node(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Option<Suggestion> {
    let mut by_speed: Vec<&NodeProfile> = fleet.nodes().iter().collect();
    by_speed.sort_by_key(|node| (node.memory_bandwidth, &node.name));
    let like = by_speed.get(by_speed.len() / 2)?;
    let names = || fleet.nodes().iter().map(|node| node.name.as_str());
    let name = (1..).map(|index| format!("another-{index}")).find(|name| names().all(|other| other != name))?;
    // Only used when there is no link at all to go by.
    let link = Link { bandwidth: 125_000_000, latency: Nanos(500_000) };
    let with = |gib: u64| {
        let node = NodeProfile { name: name.clone(), memory: Bytes::gib(gib), ..(*like).clone() };
        fleet.with_node(node, link)
    };
    let gib = least(1, 2048, |gib| can_fit(card, &with(gib), goal))?;
    planned(card, &with(gib), goal, |_| {
        format!("one more node with {} for LIME, as fast as {:?}", Bytes::gib(gib), like.name)
    })
}
