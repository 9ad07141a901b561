//! What the workers' pods are doing, as their statuses tell.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use lime_api::{Assignment, LimePlan, ShardState, ShardStatus};

use crate::{
    conditions::{Cause, advised},
    names,
    snapshot::{RingReport, Snapshot},
};

/// A shard as it is found, with what is wrong with it.
#[derive(Clone, Debug)]
pub struct Shard {
    /// For the status.
    pub status: ShardStatus,
    /// Its pod's name, whether it is there or not.
    pub pod: String,
    /// Its pod's address.
    pub address: Option<String>,
    /// What is wrong: the node, the pod, the container and the cause.
    pub trouble: Option<Cause>,
    /// How the container ended last, where it did.
    pub ended: Option<String>,
    /// The pod has come to its end and must be made anew.
    pub over: bool,
    /// Somebody has told the pod to go: however it ends, that is no failure.
    pub told_to_go: bool,
}

/// The shards of `plan`, in ring order.
///
/// `folders` says whether their pods mount folders of their nodes.
pub fn shards(snapshot: &Snapshot, plan: &LimePlan, lost: &[String], folders: bool) -> Vec<Shard> {
    let name = plan.name_any();
    // A gateway that still follows an earlier plan says nothing of this one's shards.
    let ring = snapshot.ring.as_ref().filter(|ring| ring.plan == name);
    let of = |(index, assignment): (usize, &Assignment)| {
        let pod_name = names::worker(&name, index);
        let pod = snapshot.pods.iter().find(|pod| pod.name_any() == pod_name);
        let gone = lost.iter().any(|node| node == &assignment.node);
        let refusal = snapshot.refused.get(&pod_name).map(|refusal| advised(refusal, folders));
        let mut found = shard(assignment, pod_name, pod.map(AsRef::as_ref), gone, ring, refusal);
        let mishap = snapshot.mishaps.get(&found.pod).filter(|_| found.status.state == ShardState::Pending);
        if let Some(mishap) = mishap {
            let text = format!("{}: pod {} does not start: {mishap}", assignment.node, found.pod);
            found.trouble = Some(Cause::new("ShardPending", text));
        }
        found
    };
    plan.spec.assignments.iter().enumerate().map(of).collect()
}

/// The pod of the device at place `index` of the ring, if it is there.
pub fn pod<'a>(snapshot: &'a Snapshot, plan: &LimePlan, index: usize) -> Option<&'a Pod> {
    let name = names::worker(&plan.name_any(), index);
    snapshot.pods.iter().map(AsRef::as_ref).find(|pod| pod.name_any() == name)
}

/// Whether a pod does not run any more, or has never been placed.
pub fn is_going(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let over = matches!(phase, Some("Failed" | "Succeeded"));
    over || pod.metadata.deletion_timestamp.is_some() || unschedulable(pod).is_some()
}

/// Why the scheduler finds no place for a pod, in its own words.
pub fn unschedulable(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let refused = |reason: Option<&str>| matches!(reason, Some("Unschedulable"));
    let condition = conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status != "True")?;
    refused(condition.reason.as_deref()).then(|| condition.message.clone().unwrap_or_default())
}

fn shard(
    assignment: &Assignment,
    pod_name: String,
    pod: Option<&Pod>,
    lost: bool,
    ring: Option<&RingReport>,
    refusal: Option<String>,
) -> Shard {
    let node = &assignment.node;
    let (pinned, streamed) = (i128::from(assignment.pinned_bytes), i128::from(assignment.streamed_bytes));
    let offloaded = if pinned + streamed <= 0 { 0 } else { streamed * 100 / (pinned + streamed) };
    let mut found = Shard {
        status: ShardStatus {
            node: node.clone(),
            pod: pod.map(kube::ResourceExt::name_any),
            layers: Some(assignment.layers.clone()),
            offloaded_percent: i32::try_from(offloaded).ok(),
            weights_percent: ring.and_then(|ring| ring.loaded.get(node).copied()),
            state: ShardState::Pending,
            restarts: 0,
        },
        pod: pod_name.clone(),
        address: pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone()).filter(|address| !address.is_empty()),
        trouble: None,
        ended: None,
        over: false,
        told_to_go: pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()),
    };
    let Some(pod) = pod else {
        let state = if lost { ShardState::Lost } else { ShardState::Pending };
        found.status.state = state;
        let text = match refusal {
            Some(refusal) => format!("{node}: the pod {pod_name} cannot be made: {refusal}"),
            None => format!("{node}: the pod {pod_name} is being made"),
        };
        found.trouble = Some(Cause::new("ShardPending", text));
        return found;
    };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    let initial = pod.status.as_ref().and_then(|status| status.init_container_statuses.clone()).unwrap_or_default();
    found.status.restarts =
        containers.iter().map(|container| container.restart_count.max(0)).fold(0, i32::saturating_add);
    found.ended = containers.iter().chain(&initial).find_map(|container| ended(&pod_name, container));
    found.over = matches!(phase, "Failed" | "Succeeded") || found.told_to_go;
    let crash = || {
        let why = found.ended.clone().unwrap_or_else(|| format!("pod {pod_name}: {phase}"));
        Cause::new("ShardCrashed", format!("{node}: {why}"))
    };
    let waiting = containers.iter().chain(&initial).find_map(|container| container.state.as_ref()?.waiting.as_ref());
    let waiting_reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    (found.status.state, found.trouble) = if lost {
        (
            ShardState::Lost,
            Some(Cause::new("NodeLost", format!("{node}: the node is lost, and pod {pod_name} with it"))),
        )
    } else if found.over && !leaves(pod, &containers) {
        (ShardState::Crashed, Some(crash()))
    } else if containers.iter().any(|container| container.ready) || serves(&containers, ring) {
        (ShardState::Ready, None)
    } else if matches!(waiting_reason, "CrashLoopBackOff" | "RunContainerError") {
        (ShardState::Crashed, Some(crash()))
    } else if !waiting_reason.is_empty() && !matches!(waiting_reason, "ContainerCreating" | "PodInitializing") {
        let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
        let text = format!("{node}: pod {pod_name} waits: {waiting_reason} {message}");
        (ShardState::Pending, Some(Cause::new("ShardPending", text.trim_end())))
    } else if initial.iter().any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some())) {
        let text = format!("{node}: pod {pod_name} fetches weights");
        (ShardState::Downloading, Some(Cause::new("Downloading", text)))
    } else if phase == "Running" {
        (ShardState::Loading, Some(Cause::new("ShardPending", format!("{node}: pod {pod_name} is starting"))))
    } else {
        (ShardState::Pending, Some(Cause::new("ShardPending", pending(pod, node, &pod_name))))
    };
    found
}

/// Whether a pod that was told to leave still serves: it does until its gateway has ended its answers.
fn leaves(pod: &Pod, containers: &[ContainerStatus]) -> bool {
    let ends = pod.metadata.deletion_timestamp.is_some();
    ends && !containers.is_empty() && containers.iter().all(|container| container.ready)
}

/// A ring that answers goes through every worker, whatever the kubelet's next probe is going to say.
fn serves(containers: &[ContainerStatus], ring: Option<&RingReport>) -> bool {
    let running = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    ring.is_some_and(|ring| ring.ready) && !containers.is_empty() && containers.iter().all(running)
}

/// How a container ended last.
fn ended(pod: &str, container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = state.filter(|ended| ended.exit_code != 0).or(last)?;
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let message: String = ended.message.as_deref().unwrap_or_default().trim().chars().take(500).collect();
    let code = ended.exit_code;
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    Some(format!("pod {pod}, container {} ended with code {code} ({reason}){message}", container.name))
}

/// Why the scheduler has not placed a pod.
fn pending(pod: &Pod, node: &str, pod_name: &str) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let scheduled =
        conditions.and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "PodScheduled"));
    match scheduled.filter(|condition| condition.status != "True").and_then(|condition| condition.message.clone()) {
        Some(message) => format!("{node}: pod {pod_name} cannot be scheduled: {message}"),
        None => format!("{node}: pod {pod_name} has not started yet"),
    }
}

#[cfg(test)]
#[path = "shards_tests.rs"]
mod tests;
