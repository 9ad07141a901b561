//! Why there is no plan, and what would fit: every suggestion was planned.

use std::fmt::Write as _;

use thiserror::Error;

use crate::planning::{can_fit, try_plan};
use lime_plan::{
    Bytes, Fleet, Goal, GoalError, KV_PAGE_TOKENS, Link, MemoryModel, ModelCard, Nanos, NodeProfile, Offload, Plan,
    PlanError,
};

/// Why there is no plan.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The fleet has no nodes.
    #[error("the fleet has no nodes")]
    Empty,
    /// Fewer nodes than must take part.
    #[error("the fleet has {nodes} nodes, {least} or more are to take part: add nodes or ask for fewer")]
    TooFew {
        /// Fewest that were asked for.
        least: u32,
        /// Nodes of the fleet.
        nodes: usize,
    },
    /// The wish or the model card makes no sense.
    #[error(transparent)]
    Goal(#[from] GoalError),
    /// What the search made is no plan: a fault of its own.
    #[error(
        "the search made a plan that breaks a rule ({0}): a fault of LIME, please report it with card, fleet and wish"
    )]
    Unsound(#[from] PlanError),
    /// Nothing fits.
    #[error("{0}")]
    Infeasible(Shortage),
}

/// What is missing where, and what would fit instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes that are missing on `node`; zero where no amount on one node helps.
    pub missing: Bytes,
    /// The node to which the least would have to be added.
    pub node: String,
    /// Weights of the model.
    pub weights: Bytes,
    /// KV cache of all layers.
    pub kv: Bytes,
    /// Memory of the whole fleet.
    pub memory: Bytes,
    /// Up to three changes that were planned and fit.
    pub fits: Vec<Suggestion>,
}

/// A change that was planned and fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The change, as a sentence without its full stop.
    pub change: String,
    /// The time per token that is predicted then.
    pub time_per_token: Nanos,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!(
            "the fleet does not hold the model: {} of weights and {} of KV cache for {} of memory",
            self.weights, self.kv, self.memory
        );
        if self.missing > Bytes::ZERO {
            let (missing, exact, node) = (self.missing, self.missing.0, &self.node);
            let _ = write!(text, "; {missing} ({exact} bytes) more on {node:?} would be the least that helps");
        }
        for (index, suggestion) in self.fits.iter().enumerate() {
            let before = if index == 0 { "; what would fit: " } else { "; or " };
            let _ = write!(text, "{before}{} ({} per token)", suggestion.change, suggestion.time_per_token);
        }
        f.write_str(&text)
    }
}

const MOST_SUGGESTIONS: usize = 3;

/// A disk that is suggested where a node has none: what a cheap NVMe drive reads.
const SUGGESTED_DISK: u64 = 1_000_000_000;

pub(crate) fn refuse(card: &ModelCard, fleet: &Fleet, goal: &Goal, others: &[ModelCard]) -> Refusal {
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
    Refusal::Infeasible(Shortage {
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
