//! Limits of processors, where a quota of the namespace lets no pod in without one. Elsewhere there are none: a worker computes on all
//! that its node has, and a limit would only slow it down.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, ResourceQuota};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Kind, Object};

/// For pods that may be anywhere, and need little.
const ELSEWHERE: &str = "2";

/// Whether one of `quotas` counts limits of processors: then every pod must have one.
pub fn are_limited(quotas: &[ResourceQuota]) -> bool {
    let mut hard = quotas.iter().filter_map(|quota| quota.spec.as_ref()?.hard.as_ref());
    hard.any(|hard| hard.contains_key("limits.cpu"))
}

/// Gives every container without a limit of processors one: a worker's is all that its node has, so that it is never reached.
pub fn limit_processors(objects: &mut [Object], nodes: &[Arc<Node>]) {
    let capacity = |node: &Arc<Node>| {
        let processors = node.status.as_ref()?.capacity.as_ref()?.get("cpu")?;
        Some((node.name_any(), processors.0.clone()))
    };
    let capacities: BTreeMap<String, String> = nodes.iter().filter_map(capacity).collect();
    for object in objects {
        let spec = match object.kind {
            Kind::Pod => &mut object.body["spec"],
            Kind::Deployment | Kind::Job => &mut object.body["spec"]["template"]["spec"],
            _ => continue,
        };
        let pinned = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let pinned = pinned["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].as_str();
        let limit = pinned.and_then(|node| capacities.get(node)).map_or(ELSEWHERE, String::as_str).to_owned();
        for containers in ["containers", "initContainers"] {
            for container in spec[containers].as_array_mut().into_iter().flatten() {
                let limits = &mut container["resources"]["limits"];
                if limits["cpu"] == Value::Null {
                    limits["cpu"] = json!(limit);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_on_processors_asks_for_a_limit_of_every_container() {
        let quota = |hard: Value| serde_json::from_value(json!({ "spec": { "hard": hard } })).unwrap();
        assert!(!are_limited(&[]));
        assert!(!are_limited(&[quota(json!({ "requests.cpu": "1", "limits.memory": "1Gi", "pods": "3" }))]));
        assert!(are_limited(&[quota(json!({ "pods": "3" })), quota(json!({ "limits.cpu": "8" }))]));

        let mut node = crate::testing::node("a");
        node["status"]["capacity"] = json!({ "cpu": "6" });
        let nodes = [Arc::new(serde_json::from_value(node).unwrap())];
        let pinned = |node: &str| {
            json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchFields": [{ "values": [node] }] }] } } },
                "initContainers": [{ "name": "i" }],
                "containers": [{ "name": "c", "resources": { "limits": { "memory": "1Mi" } } }] })
        };
        let own = json!({ "containers": [{ "name": "c", "resources": { "limits": { "cpu": "500m" } } }] });
        let of = |kind, body| Object { kind, name: "x".into(), body, stays: false };
        let mut objects = [
            of(Kind::Pod, json!({ "spec": pinned("a") })),
            of(Kind::Pod, json!({ "spec": pinned("unknown") })),
            of(Kind::Deployment, json!({ "spec": { "template": { "spec": own } } })),
            of(Kind::Service, json!({ "spec": {} })),
        ];
        limit_processors(&mut objects, &nodes);
        let limit = |spec: &Value, containers: &str| spec[containers][0]["resources"]["limits"]["cpu"].clone();
        assert_eq!(limit(&objects[0].body["spec"], "containers"), "6");
        assert_eq!(limit(&objects[0].body["spec"], "initContainers"), "6");
        assert_eq!(objects[0].body["spec"]["containers"][0]["resources"]["limits"]["memory"], "1Mi");
        assert_eq!(limit(&objects[1].body["spec"], "containers"), ELSEWHERE);
        assert_eq!(limit(&objects[2].body["spec"]["template"]["spec"], "containers"), "500m");
        assert_eq!(objects[3].body, json!({ "spec": {} }));
    }
}
