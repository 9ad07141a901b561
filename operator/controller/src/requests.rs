//! Memory that pods have requested: the scheduler puts no pod where that leaves no room, however little of it is used.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, PodStatus},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt as _;
use lime_api::parse_bytes;
use lime_plan::Bytes;

use crate::names;

/// What pods other than workers of LIME have requested, by node. Workers are counted by their plans.
pub fn of_others(pods: &[Arc<Pod>]) -> BTreeMap<String, Bytes> {
    let mut sums: BTreeMap<String, Bytes> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !is_worker(pod) && !is_over(pod)) {
        let Some(spec) = pod.spec.as_ref() else { continue };
        let Some(node) = spec.node_name.as_ref() else { continue };
        let sum = sums.entry(node.clone()).or_default();
        *sum += requested(spec);
    }
    sums
}

/// Leaves of a pod only what is needed here: there may be thousands.
pub fn strip(pod: &mut Pod) {
    let labels = pod.metadata.labels.take().unwrap_or_default();
    let kept = labels.into_iter().filter(|(key, _)| [names::COMPONENT_LABEL, names::MANAGED_BY.0].contains(&&**key));
    pod.metadata.labels = Some(kept.collect());
    pod.metadata.annotations = None;
    pod.metadata.owner_references = None;
    let phase = pod.status.take().and_then(|status| status.phase);
    pod.status = Some(PodStatus { phase, ..PodStatus::default() });
    let Some(spec) = pod.spec.take() else { return };
    let bare = |containers: Vec<Container>| {
        let bare = |it: Container| Container {
            resources: it.resources,
            restart_policy: it.restart_policy,
            ..Container::default()
        };
        containers.into_iter().map(bare).collect()
    };
    pod.spec = Some(PodSpec {
        node_name: spec.node_name,
        containers: bare(spec.containers),
        init_containers: spec.init_containers.map(bare),
        overhead: spec.overhead,
        resources: spec.resources,
        ..PodSpec::default()
    });
}

fn is_worker(pod: &Pod) -> bool {
    let label = |key: &str| pod.labels().get(key).map(String::as_str);
    label(names::MANAGED_BY.0) == Some(names::MANAGED_BY.1) && label(names::COMPONENT_LABEL) == Some("worker")
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// As the scheduler counts: containers that run together, or the largest that runs before them; what the pod itself names wins.
fn requested(spec: &PodSpec) -> Bytes {
    let of = |container: &Container| memory(container.resources.as_ref().and_then(|it| it.requests.as_ref()));
    let sum = |all: &mut dyn Iterator<Item = Bytes>| all.fold(Bytes::ZERO, |sum, bytes| sum + bytes);
    let (mut beside, mut before) = (Bytes::ZERO, Bytes::ZERO);
    for initial in spec.init_containers.iter().flatten() {
        if initial.restart_policy.as_deref() == Some("Always") {
            beside += of(initial);
            before = before.max(beside);
        } else {
            before = before.max(beside + of(initial));
        }
    }
    let together = beside + sum(&mut spec.containers.iter().map(of));
    let whole = spec.resources.as_ref().and_then(|it| it.requests.as_ref());
    let counted = if whole.is_some_and(|it| it.contains_key("memory")) { memory(whole) } else { together.max(before) };
    counted + memory(spec.overhead.as_ref())
}

fn memory(amounts: Option<&BTreeMap<String, Quantity>>) -> Bytes {
    amounts.and_then(|amounts| bytes(&amounts.get("memory")?.0)).unwrap_or_default()
}

/// Every form that Kubernetes takes, those that nobody writes by hand among them. What is none counts as nothing.
fn bytes(text: &str) -> Option<Bytes> {
    if let Ok(bytes) = parse_bytes(text) {
        return Some(bytes);
    }
    if let Some(thousandths) = text.strip_suffix('m').and_then(|number| number.parse::<u64>().ok()) {
        return Some(Bytes(thousandths.div_ceil(1000)));
    }
    text.parse::<f64>().ok().filter(|value| (0.0..9e18).contains(value)).map(|value| Bytes(value.ceil() as u64))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(labels: Value, phase: &str, spec: Value) -> Arc<Pod> {
        let whole =
            json!({ "metadata": { "name": "p", "labels": labels }, "spec": spec, "status": { "phase": phase } });
        let mut pod: Pod = serde_json::from_value(whole).unwrap();
        strip(&mut pod);
        Arc::new(pod)
    }

    fn asks(memory: &str) -> Value {
        json!({ "name": "c", "image": "x", "resources": { "requests": { "memory": memory } } })
    }

    #[test]
    fn requests_are_counted_as_the_scheduler_does() {
        let sidecar =
            json!({ "name": "s", "restartPolicy": "Always", "resources": { "requests": { "memory": "10Mi" } } });
        let table = [
            (json!({ "containers": [asks("100Mi"), asks("20Mi")] }), 120),
            (json!({ "containers": [asks("100Mi")], "initContainers": [asks("300Mi"), asks("50Mi")] }), 300),
            (json!({ "containers": [asks("100Mi")], "initContainers": [sidecar, asks("95Mi")] }), 110),
            (json!({ "containers": [asks("100Mi")], "overhead": { "memory": "7Mi" } }), 107),
            (json!({ "containers": [asks("1Mi")], "resources": { "requests": { "memory": "64Mi" } } }), 64),
            (json!({ "containers": [asks("1048576000m"), asks("1e0"), asks("nonsense")] }), 1),
            (json!({ "containers": [{ "name": "c" }] }), 0),
        ];
        for (index, (mut spec, mebibytes)) in table.into_iter().enumerate() {
            spec["nodeName"] = "a".into();
            let found = of_others(&[pod(json!({}), "Running", spec)]);
            assert_eq!(found["a"].0 >> 20, mebibytes, "row {index}");
        }
    }

    #[test]
    fn workers_and_what_is_over_or_nowhere_are_left_out() {
        let at = |node: Value| json!({ "nodeName": node, "containers": [asks("10Mi")] });
        let ours =
            |component: &str| json!({ names::MANAGED_BY.0: names::MANAGED_BY.1, names::COMPONENT_LABEL: component });
        let pods = [
            pod(ours("worker"), "Running", at("a".into())),
            pod(ours("gateway"), "Running", at("a".into())),
            pod(json!({ names::COMPONENT_LABEL: "worker" }), "Pending", at("a".into())),
            pod(json!({}), "Succeeded", at("a".into())),
            pod(json!({}), "Failed", at("b".into())),
            pod(json!({}), "Pending", at(Value::Null)),
        ];
        assert_eq!(of_others(&pods), BTreeMap::from([("a".to_owned(), Bytes::mib(20))]));
    }
}
