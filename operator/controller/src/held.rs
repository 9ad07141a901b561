//! What workers of LIME hold of the nodes' memory: it is lent and comes back, and is nobody else's.
//!
//! An agent in a namespace with restricted pod security sees no control group but its own, so the workers say it themselves, through
//! their gateway. Where nothing is heard of one that runs, it is taken to hold what its plan gives it: silence is no pressure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use lime_api::parse_bytes;
use lime_plan::Bytes;

use crate::{names, snapshot::RingReport};

/// Memory that the workers among `pods` hold, by node: those of the deployment `uid`, not of one that had its name before and whose pods
/// the watch has not yet seen going. `overhead` is what a process takes beside what it counts itself.
pub fn held(pods: &[Arc<Pod>], uid: &str, ring: Option<&RingReport>, overhead: Bytes) -> BTreeMap<String, Bytes> {
    let mut sums: BTreeMap<String, Bytes> = BTreeMap::new();
    let owned = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.uid == uid);
    for pod in pods.iter().filter(|pod| owned(pod) && runs(pod)) {
        let Some(node) = node(pod) else { continue };
        let limit = limit(pod);
        let said = ring.and_then(|ring| ring.held.get(node)).copied();
        let loaded = ring.and_then(|ring| ring.loaded.get(node)).and_then(|percent| u64::try_from(*percent).ok());
        let bytes = match (said, loaded) {
            (Some(said), Some(loaded @ 0..100)) => counted(said, overhead).max(Bytes(limit.0 / 100 * loaded)),
            (Some(said), _) => counted(said, overhead),
            (None, Some(loaded)) => Bytes(limit.0 / 100 * loaded.min(100)),
            (None, None) => limit,
        };
        let sum = sums.entry(node.to_owned()).or_default();
        *sum = Bytes(sum.0.saturating_add(bytes.0));
    }
    sums
}

fn counted(said: Bytes, overhead: Bytes) -> Bytes {
    if said == Bytes::ZERO { said } else { Bytes(said.0.saturating_add(overhead.0)) }
}

/// Whether a pod is a worker whose process runs.
fn runs(pod: &Pod) -> bool {
    let worker = pod.labels().get(names::COMPONENT_LABEL).map(String::as_str) == Some("worker");
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let running = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().is_some_and(|state| state.running.is_some())
    };
    worker && containers.into_iter().any(|container| container.ready || running(&container.state))
}

fn node(pod: &Pod) -> Option<&str> {
    let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    placed.or_else(|| pod.labels().get(names::NODE_LABEL).map(String::as_str))
}

/// A worker's limit is its part of the plan.
fn limit(pod: &Pod) -> Bytes {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let limits = containers.filter_map(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory"));
    let bytes = limits.filter_map(|limit| parse_bytes(&limit.0).ok());
    bytes.fold(Bytes::ZERO, |sum, bytes| Bytes(sum.0.saturating_add(bytes.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(component: &str, running: bool) -> Arc<Pod> {
        let state = if running { json!({ "running": {} }) } else { json!({ "waiting": {} }) };
        let whole = json!({
            "metadata": {
                "name": "m-0", "labels": { names::COMPONENT_LABEL: component },
                "ownerReferences": [{ "apiVersion": "lime.dev/v1alpha1", "kind": "LimeDeployment", "name": "m", "uid": "u" }],
            },
            "spec": { "nodeName": "a", "containers": [
                { "name": "worker", "resources": { "limits": { "memory": "100Mi" } } },
            ]},
            "status": { "containerStatuses": [
                { "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state },
            ]},
        });
        Arc::new(serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn what_a_worker_holds_is_what_it_says_or_else_what_it_may() {
        let report = |held: Option<u64>, loaded: Option<i32>| RingReport {
            held: held.map(|held| ("a".to_owned(), Bytes::mib(held))).into_iter().collect(),
            loaded: loaded.map(|loaded| ("a".to_owned(), loaded)).into_iter().collect(),
            ..RingReport::default()
        };
        let table = [
            (pod("worker", true), Some(report(Some(70), Some(100))), Some(78)),
            (pod("worker", true), Some(report(Some(0), Some(100))), Some(0)),
            // While it loads it says nothing of what has come already.
            (pod("worker", true), Some(report(Some(0), Some(40))), Some(40)),
            (pod("worker", true), Some(report(None, Some(40))), Some(40)),
            (pod("worker", true), Some(report(None, None)), Some(100)),
            (pod("worker", true), None, Some(100)),
            (pod("worker", false), None, None),
            (pod("gateway", true), None, None),
        ];
        for (index, (pod, ring, expected)) in table.into_iter().enumerate() {
            let of = |uid| {
                held(std::slice::from_ref(&pod), uid, ring.as_ref(), Bytes::mib(8)).get("a").map(|bytes| bytes.0 >> 20)
            };
            assert_eq!(of("another life"), None, "row {index}");
            let found = of("u");
            // A percentage of a limit loses up to 99 bytes.
            assert!(found == expected || found.map(|found| found + 1) == expected, "row {index}: {found:?}");
        }
    }
}
