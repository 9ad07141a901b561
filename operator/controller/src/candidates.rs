//! Which nodes may take part, with what; and why the others may not. Nothing in a profile is believed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use lime_api::{
    HEARTBEAT_LEASE_SECONDS, LimeNodeProfile, OffloadPolicy, RejectedNode, UNMEASURED_LINK, believable, parse_bytes,
};
use lime_plan::{Bytes, Fleet, Link, NodeProfile};

use crate::{
    conditions::Cause,
    links::{self, Ends},
    node_affinity,
    snapshot::Snapshot,
    tolerations::tolerated,
    wish::Wish,
};

/// Most nodes that are planned with: more are left out by name, the smallest first.
const MOST_NODES: usize = 256;

/// Nodes that may take part, and those that may not.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// What each has for this deployment.
    pub nodes: Vec<NodeProfile>,
    /// Bytes that each may keep on its disk, where that is known.
    pub disks: BTreeMap<String, Bytes>,
    /// Measured links, by both ends.
    pub links: BTreeMap<(String, String), Link>,
    /// Links that are lost: no plan may use them.
    pub cut: BTreeSet<Ends>,
    /// Nodes that match the selector and may not take part.
    pub rejected: Vec<RejectedNode>,
    /// How many nodes match the selector.
    pub matching: usize,
}

impl Candidates {
    /// The fleet of the candidates.
    pub fn fleet(&self) -> Fleet {
        let nodes = self.nodes.clone();
        let name = |index: usize| nodes[index].name.clone();
        Fleet::new(nodes.clone(), |from, to| {
            if self.cut.contains(&Ends::of(&name(from), &name(to))) {
                return links::LOST;
            }
            let there = self.links.get(&(name(from), name(to)));
            there.or_else(|| self.links.get(&(name(to), name(from)))).copied().unwrap_or(UNMEASURED_LINK)
        })
    }

    /// The same without some nodes, for which `reason` and `message` are noted.
    pub fn without(&self, names: &BTreeSet<String>, reason: &str, message: impl Fn(&str) -> String) -> Self {
        let mut fewer = self.clone();
        fewer.nodes.retain(|node| !names.contains(&node.name));
        for node in names {
            fewer.rejected.push(RejectedNode { node: node.clone(), reason: reason.to_owned(), message: message(node) });
        }
        fewer
    }

    /// The same with links that are lost.
    pub fn without_links(mut self, cut: impl IntoIterator<Item = Ends>) -> Self {
        self.cut.extend(cut);
        self
    }

    /// The same without nodes that the scheduler refused.
    pub fn without_refused(mut self, refused: Vec<RejectedNode>) -> Self {
        for node in refused {
            let before = self.nodes.len();
            self.nodes.retain(|other| other.name != node.node);
            // Who cannot take part for another reason keeps that.
            self.rejected.extend((self.nodes.len() < before).then_some(node));
        }
        self
    }

    /// Why there are too few, if there are.
    pub fn shortage(&self) -> Option<Cause> {
        if self.matching == 0 {
            return Some(Cause::new(
                "NoNodesMatch",
                "no node has the labels of spec.nodes.selector: label nodes, or change the selector",
            ));
        }
        if !self.nodes.is_empty() {
            return None;
        }
        let told: Vec<&str> = self.rejected.iter().take(5).map(|node| node.message.as_str()).collect();
        let message = format!("none of {} matching nodes can take part: {}", self.matching, told.join("; "));
        let all = |reason: &str| self.rejected.iter().all(|node| node.reason == reason);
        let reason = ["NoAgent", "ProfileStale", "ArchitectureMismatch"].into_iter().find(|reason| all(reason));
        Some(Cause::new(reason.unwrap_or("NoNodeReady"), message))
    }
}

/// Why a node is left out whose memory others have, or that keeps it for others.
pub const NO_MEMORY_LEFT: &str = "NoMemoryLeft";

/// Why a node is left out on which the scheduler did not put its shard.
pub const SCHEDULER_REFUSED: &str = "SchedulerRefused";

/// Why a node is left out that the workers' own template keeps them off.
const AFFINITY: &str = "AffinityMismatch";

/// Why a node is left out that does not reach another of the plan.
pub const LINK_LOST: &str = "LinkLost";

/// Goes through all nodes.
pub fn candidates(snapshot: &Snapshot, wish: &Wish) -> Candidates {
    let mut found = Candidates::default();
    let profiles: BTreeMap<String, &LimeNodeProfile> =
        snapshot.profiles.iter().map(|profile| (profile.name_any(), profile.as_ref())).collect();
    for node in &snapshot.nodes {
        if !matches(node, wish.spec.nodes.selector.as_ref()) {
            continue;
        }
        found.matching += 1;
        let name = node.name_any();
        match admit(snapshot, wish, node, profiles.get(&name).copied()) {
            Ok((profile, disk)) => {
                found.nodes.push(profile);
                found.disks.extend(disk.map(|disk| (name, disk)));
            }
            Err((reason, message)) => {
                found.rejected.push(RejectedNode { node: name, reason: reason.to_owned(), message });
            }
        }
    }
    found.nodes.sort_by(|one, other| one.name.cmp(&other.name));
    found.rejected.sort_by(|one, other| one.node.cmp(&other.node));
    if found.nodes.len() > MOST_NODES {
        let mut by_memory: Vec<_> = found.nodes.iter().collect();
        by_memory.sort_by_key(|node| (std::cmp::Reverse(node.memory), node.name.clone()));
        let out = by_memory[MOST_NODES..].iter().map(|node| node.name.clone()).collect();
        found = found.without(&out, "OverMaxCount", |node| {
            format!("{node}: only the {MOST_NODES} nodes with the most memory are planned with")
        });
    }
    found.links = links(&found.nodes, &profiles);
    found
}

fn links(nodes: &[NodeProfile], profiles: &BTreeMap<String, &LimeNodeProfile>) -> BTreeMap<(String, String), Link> {
    let mut links = BTreeMap::new();
    for node in nodes {
        for (peer, link) in profiles.get(&node.name).iter().flat_map(|profile| profile.measured_links()) {
            links.insert((node.name.clone(), peer.to_owned()), link);
        }
    }
    links
}

/// Whether a node has the labels. A selector that makes no sense matches nothing.
fn matches(node: &Node, selector: Option<&LabelSelector>) -> bool {
    let Some(selector) = selector else { return true };
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(node.labels()))
}

type Refusal = (&'static str, String);

fn admit(
    snapshot: &Snapshot,
    wish: &Wish,
    node: &Node,
    profile: Option<&LimeNodeProfile>,
) -> Result<(NodeProfile, Option<Bytes>), Refusal> {
    let name = node.name_any();
    if let Some(cause) = unavailable(node, wish) {
        return Err(cause);
    }
    let Some(profile) = profile else {
        return Err(("NoAgent", format!("{name}: it has no LimeNodeProfile: is the agent running there?")));
    };
    if profile.spec.excluded {
        return Err(("Excluded", format!("{name}: its LimeNodeProfile says excluded: true")));
    }
    let silent = silence_seconds(snapshot, &name);
    let patience = i64::from(HEARTBEAT_LEASE_SECONDS.max(wish.spec.failure.node_loss_grace_seconds));
    match silent {
        None => return Err(("ProfileStale", format!("{name}: its agent has never sent a heartbeat"))),
        Some(seconds) if seconds > patience => {
            return Err(("ProfileStale", format!("{name}: its agent has been silent for {}", rough(seconds))));
        }
        Some(_) => {}
    }
    let status = profile.status.as_ref().ok_or_else(|| incomplete(&name, "has not been measured yet"))?;
    if let Some(architecture) = status.architecture.as_deref()
        && !matches!(architecture, "amd64" | "arm64")
    {
        let shown: String = architecture.chars().take(40).collect();
        return Err((
            "ArchitectureMismatch",
            format!("{name}: there is no image for {shown:?} (amd64 and arm64 only)"),
        ));
    }
    let memory = room(snapshot, wish, node, profile)?;
    let speeds = profile.speeds().map_err(|missing| incomplete(&name, &missing.to_string()))?;
    let disk_bandwidth = speeds.disk_bandwidth.filter(|_| wish.spec.offload.policy != OffloadPolicy::Never);
    let disk = status.disk.clone().unwrap_or_default();
    let free = believable(disk.free_bytes, 0, 1 << 60).map(Bytes);
    let limits = [free, quantity(profile.spec.disk_budget.as_ref()), wish.disk];
    let node_profile = NodeProfile { disk_bandwidth, ..speeds.node(name, memory, Bytes::ZERO) };
    Ok((node_profile, limits.into_iter().flatten().min()))
}

/// Memory of a node for this deployment: what is free and what workers of LIME hold, less what is left to others and what
/// other deployments take; and no more than Kubernetes would let a pod request.
pub fn room(snapshot: &Snapshot, wish: &Wish, node: &Node, profile: &LimeNodeProfile) -> Result<Bytes, Refusal> {
    let name = node.name_any();
    let memory = profile.status.as_ref().and_then(|status| status.memory.clone()).unwrap_or_default();
    let bytes = |value: i64| believable(Some(value), 0, 1 << 56).map(Bytes);
    let available = bytes(memory.available_bytes).filter(|available| *available > Bytes::ZERO);
    let available = available.ok_or_else(|| incomplete(&name, "says nothing of its free memory"))?;
    let of = |what: &BTreeMap<String, Bytes>| what.get(&name).copied().unwrap_or_default();
    let counted = bytes(memory.lime_bytes.unwrap_or_default()).unwrap_or_default();
    let held = counted.max(of(&snapshot.held));
    let mut usable = available + held;
    if let Some(total) = bytes(memory.total_bytes).filter(|total| *total > Bytes::ZERO) {
        usable = usable.min(total);
    }
    let reserve = quantity(profile.spec.memory_reserve.as_ref()).unwrap_or_default().max(wish.reserve);
    usable = usable.saturating_sub(reserve);
    if let Some(budget) = quantity(profile.spec.memory_budget.as_ref()) {
        usable = usable.min(budget);
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref()?.get("memory"));
    let requested = of(&snapshot.requested);
    if let Some(allocatable) = quantity(allocatable) {
        usable = usable.min(allocatable.saturating_sub(requested));
    }
    let lent = of(&snapshot.lent);
    let left = usable.saturating_sub(lent);
    if left < Bytes::mib(1) {
        let mut others = String::new();
        for (what, bytes) in [("other deployments take", lent), ("other pods have requested", requested)] {
            if bytes > Bytes::ZERO {
                others = format!("{others}; {what} {bytes}");
            }
        }
        return Err((NO_MEMORY_LEFT, format!("{name}: of {usable} usable memory nothing is left{others}")));
    }
    Ok(left)
}

/// Why no pod may be put on a node now.
pub fn unavailable(node: &Node, wish: &Wish) -> Option<Refusal> {
    let name = node.name_any();
    if let Some(cause) = cordoned(node, wish) {
        return Some(cause);
    }
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    match ready {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => {
            let why = condition.reason.as_deref().unwrap_or("no reason given");
            Some(("NotReady", format!("{name}: Kubernetes says that the node is not ready ({why})")))
        }
        None => Some(("NotReady", format!("{name}: the node has not reported to Kubernetes yet"))),
    }
}

/// Why a deployment's new pods are kept off a node on purpose.
pub fn cordoned(node: &Node, wish: &Wish) -> Option<Refusal> {
    let name = node.name_any();
    let spec = node.spec.clone().unwrap_or_default();
    if spec.unschedulable == Some(true) {
        return Some(("Unschedulable", format!("{name}: the node is cordoned")));
    }
    let template = wish.worker_template();
    if !node_affinity::wanted(template.and_then(|template| template.affinity.as_ref()), node) {
        return Some((AFFINITY, format!("{name}: the affinity of spec.template.worker keeps workers off the node")));
    }
    // What Kubernetes itself puts on lost nodes is not on purpose.
    let own = |key: &str| key.starts_with("node.kubernetes.io/");
    let tolerations = template.map(|template| template.tolerations.as_slice()).unwrap_or_default();
    let mut taints = spec.taints.unwrap_or_default().into_iter();
    let taint = taints.find(|taint| {
        let keeps_off = matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !own(&taint.key);
        keeps_off && !tolerated(tolerations, taint)
    })?;
    Some(("Unschedulable", format!("{name}: the node is tainted with {}:{}", taint.key, taint.effect)))
}

/// Seconds since the last heartbeat of a node's agent.
pub fn silence_seconds(snapshot: &Snapshot, node: &str) -> Option<i64> {
    snapshot.heartbeats.get(node).map(|last| snapshot.now.as_second().saturating_sub(last.as_second()).max(0))
}

fn rough(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

fn incomplete(name: &str, what: &str) -> Refusal {
    ("ProfileIncomplete", format!("{name}: its profile {what}"))
}

fn quantity(quantity: Option<&Quantity>) -> Option<Bytes> {
    quantity.and_then(|quantity| parse_bytes(&quantity.0).ok())
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
