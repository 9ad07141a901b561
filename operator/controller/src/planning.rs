//! The planner, asked: from candidates to a LimePlan. What the wish asks for beyond the planner's own goal (room on
//! disks) is met here by planning again on fewer nodes.

use std::{cmp::Ordering, collections::BTreeSet};

use lime_api::{
    Assignment, LimePlanSpec, NodeTimes, PlanAlternative, PlanPrediction, RejectedNode, Shortfall, ShortfallReason,
};
use lime_plan::{Bytes, DevicePlan, Goal, ModelCard, Nanos, Plan, Residency};
use lime_planner::{Refusal, plan};

use crate::{
    candidates::{Candidates, LINK_LOST},
    links, names,
    wish::Wish,
};

/// Makes the best plan that there is, or says why there is none: both are LimePlans.
pub fn make(wish: &Wish, card: &ModelCard, candidates: &Candidates, overhead: Bytes) -> LimePlanSpec {
    let hash = infeasible_hash(wish, card, candidates);
    let mut candidates = candidates.clone();
    for node in &mut candidates.nodes {
        node.overhead = overhead;
    }
    let (goal, note) = wish.goal(card);
    let least = usize::try_from(wish.spec.nodes.min_count).unwrap_or(1);
    if candidates.nodes.len() < least {
        let (found, matching) = (candidates.nodes.len(), candidates.matching);
        let message =
            format!("spec.nodes.minCount asks for {least} nodes, {found} of {matching} matching nodes can take part");
        return infeasible(wish, hash, &candidates, message, ShortfallReason::TooFewNodes, None);
    }
    let (candidates, result) = best(card, candidates, &goal);
    match result {
        Ok(found) => feasible(wish, &candidates, &found, note),
        Err(refusal) => {
            let mut message = refusal.to_string();
            for ends in &candidates.cut {
                message = format!("{message}; {ends} is lost, and no plan uses it");
            }
            infeasible(wish, hash, &candidates, message, ShortfallReason::Infeasible, Some(refusal))
        }
    }
}

/// The best plan on these candidates, or on fewer of them where it would break a limit of the wish or use a link that is lost.
fn best(card: &ModelCard, mut candidates: Candidates, goal: &Goal) -> (Candidates, Result<Plan, Refusal>) {
    loop {
        let found = match plan(card, &candidates.fleet(), goal) {
            Ok(found) => found,
            Err(refusal) => return (candidates, Err(refusal)),
        };
        if let Some(fewer) = drop_some(card, &candidates, &found) {
            candidates = fewer;
            continue;
        }
        let used = links::used(&found);
        let Some(ends) = candidates.cut.iter().find(|ends| used.contains(ends)).cloned() else {
            return (candidates, Ok(found));
        };
        let cuts = |node: &str| candidates.cut.iter().filter(|cut| cut.other(node).is_some()).count();
        let without = |node: &str| {
            let other = ends.other(node).unwrap_or_default();
            candidates.without(&BTreeSet::from([node.to_owned()]), LINK_LOST, |node| {
                format!("{node}: {ends} is lost, and {other} takes part")
            })
        };
        let [one, other] = ends.both();
        // Who has lost more of the others goes; of two that have only lost each other, the one without which it is faster.
        candidates = match cuts(one).cmp(&cuts(other)) {
            Ordering::Greater => without(one),
            Ordering::Less => without(other),
            Ordering::Equal => {
                let [first, second] = [without(one), without(other)];
                // Of this link alone: to follow every choice through the links after it would double the plans with each.
                let time = |left: &Candidates| time(&plan(card, &left.fleet(), goal));
                if time(&second) < time(&first) { second } else { first }
            }
        };
    }
}

/// What typical requests take on a plan; on none, more than on any.
fn time(found: &Result<Plan, Refusal>) -> Nanos {
    let outlook = found.as_ref().ok().and_then(|plan| plan.outlook.as_ref());
    outlook.map_or(Nanos(u64::MAX), |outlook| outlook.prediction.request_time)
}

/// The first node that must go since its disk does not hold its part, if any.
fn drop_some(card: &ModelCard, candidates: &Candidates, found: &Plan) -> Option<Candidates> {
    let too_full = found.devices.iter().find(|device| {
        let bytes: Bytes = device.blocks.iter().map(|placed| card.block_bytes(placed.block)).sum();
        candidates.disks.get(&device.name).is_some_and(|free| bytes > *free)
    })?;
    let bytes: Bytes = too_full.blocks.iter().map(|placed| card.block_bytes(placed.block)).sum();
    let free = candidates.disks.get(&too_full.name).copied().unwrap_or_default();
    Some(candidates.without(&BTreeSet::from([too_full.name.clone()]), "NoDiskLeft", |node| {
        format!("{node}: its part of the weights is {bytes}, its disk may hold {free}")
    }))
}

fn feasible(wish: &Wish, candidates: &Candidates, found: &Plan, note: Option<String>) -> LimePlanSpec {
    let mut spec = base(wish, &found.input_hash);
    let outlook = found.outlook.clone();
    spec.feasible = true;
    spec.nodes = count(found.devices.len());
    spec.segments = Some(i32::try_from(found.segments).unwrap_or(i32::MAX));
    spec.assignments =
        found.devices.iter().enumerate().map(|(index, device)| assignment(found, index, device)).collect();
    let (mut streamed, mut all) = (0_i64, 0_i64);
    for assignment in &spec.assignments {
        streamed = streamed.saturating_add(assignment.streamed_bytes);
        all = all.saturating_add(assignment.streamed_bytes).saturating_add(assignment.pinned_bytes);
    }
    spec.offloaded = Some(format!("{}%", percent(streamed, all)));
    spec.rejected_nodes = candidates.rejected.clone();
    spec.missed.extend(note);
    if let Some(outlook) = outlook {
        spec.missed.extend(outlook.missed);
        let member = |name: &str| found.devices.iter().any(|device| device.name == name);
        let left_out = outlook.rejected.into_iter().map(|node| {
            // A link that is lost makes a node useless.
            let cut = candidates.cut.iter().find(|cut| cut.other(&node.name).is_some_and(member));
            let (reason, message) = match cut {
                Some(ends) => (LINK_LOST, format!("{}: {ends} is lost", node.name)),
                None => ("NotUseful", format!("{}: {}", node.name, node.reason)),
            };
            RejectedNode { node: node.name, reason: reason.into(), message }
        });
        spec.rejected_nodes.extend(left_out);
        spec.alternatives = outlook
            .alternatives
            .into_iter()
            .map(|other| PlanAlternative {
                nodes: other.devices,
                layers: other.layers.into_iter().map(|layers| i32::try_from(layers).unwrap_or(i32::MAX)).collect(),
                segments: i32::try_from(other.segments).unwrap_or(i32::MAX),
                time_per_token_microseconds: micros(other.time_per_token),
                request_microseconds: micros(other.request_time),
            })
            .collect();
        let prediction = outlook.prediction;
        let times = prediction.devices.iter().map(|share| NodeTimes {
            node: share.name.clone(),
            compute_microseconds: micros(share.compute),
            disk_microseconds: micros(share.disk),
            link_microseconds: micros(share.link),
            stall_microseconds: micros(share.stall),
            idle_microseconds: micros(share.idle),
        });
        spec.prediction = Some(PlanPrediction {
            time_per_token_milliseconds: millis(prediction.time_per_token),
            time_per_token_microseconds: micros(prediction.time_per_token),
            time_per_token: Some(shown(micros(prediction.time_per_token))),
            time_to_first_token_milliseconds: millis(prediction.time_to_first_token),
            prompt_tokens: i32::try_from(prediction.prompt_tokens).unwrap_or(i32::MAX),
            answer_tokens: i32::try_from(prediction.answer_tokens).unwrap_or(i32::MAX),
            request_microseconds: micros(prediction.request_time),
            context_tokens: i32::try_from(prediction.context_tokens).unwrap_or(i32::MAX),
            sequences: i32::try_from(prediction.sequences).unwrap_or(i32::MAX),
            lower_bound_microseconds: micros(prediction.lower_bound),
            binds: prediction.binds.clone(),
            breakdown: times.collect(),
        });
    }
    spec.rejected_nodes.sort_by(|one, other| one.node.cmp(&other.node));
    spec.rejected_nodes.dedup_by(|one, other| one.node == other.node);
    spec.document = serde_json::to_string(found).ok();
    spec
}

fn assignment(found: &Plan, index: usize, device: &DevicePlan) -> Assignment {
    let ranges = device.ranges.iter().filter(|range| !range.is_empty()).map(ToString::to_string);
    let bytes_of = |residency: Residency| -> Bytes {
        let placed = device.blocks.iter().filter(|placed| placed.residency == residency);
        placed.map(|placed| found.model.block_bytes(placed.block)).sum()
    };
    Assignment {
        node: device.name.clone(),
        layers: ranges.collect::<Vec<_>>().join(","),
        layer_count: count(device.attentions() as usize),
        head: found.head.0 as usize == index,
        pinned_bytes: bytes(device.memory.pinned),
        streamed_bytes: bytes(bytes_of(Residency::Streamed)),
        kv_bytes: bytes(device.memory.kv),
        // A device that makes room while it serves uses all that it may before it does.
        memory_bytes: bytes(device.takes()),
        budget_bytes: bytes(device.memory.budget),
    }
}

/// The digest under which it is noted that nothing fits. Small moves of memory do not change it, so that neither planning
/// nor a new object follows from them.
pub fn infeasible_hash(wish: &Wish, card: &ModelCard, candidates: &Candidates) -> String {
    // Eight steps to a doubling.
    let step = |bytes: u64| bytes >> bytes.max(8).ilog2().saturating_sub(3);
    let size = |bytes: u64| [u64::from(bytes.max(1).ilog2()), step(bytes)];
    let nodes: Vec<_> = candidates
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), size(node.memory.0), node.disk_bandwidth.is_some()))
        .collect();
    let mut inputs = serde_json::json!([wish.hash(), card, nodes, "infeasible"]);
    if let (false, Some(parts)) = (candidates.cut.is_empty(), inputs.as_array_mut()) {
        parts.push(serde_json::json!(candidates.cut));
    }
    names::digest(inputs.to_string().as_bytes())
}

/// A digest of the nodes' figures, so coarse that a plan by other figures of the same digest would hardly be another.
pub fn figures_hash(wish: &Wish, card: &ModelCard, candidates: &Candidates) -> String {
    // Two steps to a doubling.
    let step = |value: u64| [u64::from(value.max(1).ilog2()), value >> value.max(2).ilog2().saturating_sub(1)];
    let speed = |node: &lime_plan::NodeProfile| {
        [Some(node.memory_bandwidth), Some(node.throughput), node.disk_bandwidth].map(|value| value.map(step))
    };
    let speeds: Vec<_> = candidates.nodes.iter().map(speed).collect();
    let inputs = serde_json::json!([infeasible_hash(wish, card, candidates), speeds]);
    names::digest(inputs.to_string().as_bytes())
}

fn infeasible(
    wish: &Wish,
    hash: String,
    candidates: &Candidates,
    message: String,
    reason: ShortfallReason,
    refusal: Option<Refusal>,
) -> LimePlanSpec {
    let shortage = match refusal {
        Some(Refusal::Infeasible(shortage)) => Some(shortage),
        _ => None,
    };
    let mut spec = base(wish, &hash);
    spec.rejected_nodes = candidates.rejected.clone();
    spec.shortfall = Some(Shortfall {
        missing_bytes: shortage.as_ref().map_or(0, |shortage| bytes(shortage.missing)),
        node: shortage.as_ref().map(|shortage| shortage.node.clone()).filter(|node| !node.is_empty()),
        reason,
        message,
        would_fit: shortage
            .iter()
            .flat_map(|shortage| &shortage.fits)
            .map(|fit| format!("{} ({} per token)", fit.change, fit.time_per_token))
            .collect(),
    });
    spec
}

fn base(wish: &Wish, input_hash: &str) -> LimePlanSpec {
    LimePlanSpec {
        deployment: wish.name.clone(),
        deployment_generation: wish.generation,
        input_hash: input_hash.to_owned(),
        wish_hash: wish.hash(),
        ..LimePlanSpec::default()
    }
}

/// The runtime's plan that a LimePlan holds, checked as every plan from elsewhere is.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn document(spec: &LimePlanSpec) -> Result<Plan, String> {
    spec.plan().map_err(|error| error.to_string())
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn bytes(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

fn micros(time: Nanos) -> i64 {
    i64::try_from(time.0 / 1000).unwrap_or(i64::MAX)
}

fn millis(time: Nanos) -> i32 {
    i32::try_from(time.0.div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

/// Microseconds as milliseconds for people: a digit more where whole ones would tell little.
pub fn shown(micros: i64) -> String {
    let tenths = micros.max(0).saturating_add(99) / 100;
    if tenths < 100 { format!("{}.{}", tenths / 10, tenths % 10) } else { (tenths.saturating_add(9) / 10).to_string() }
}

fn percent(part: i64, whole: i64) -> i64 {
    if whole <= 0 { 0 } else { (i128::from(part) * 100 / i128::from(whole)) as i64 }
}

#[cfg(test)]
#[path = "planning_tests.rs"]
mod tests;
