//! What stands whatever the plan: Services and what leads to them, NetworkPolicies, the disruption budget.

use lime_api::LimePlan;
use serde_json::{Value, json};

use super::{Kind, Object, exposure, http_port};
use crate::{names, wish::Wish};

/// Services, NetworkPolicies and the disruption budget of a deployment by `plan`.
pub fn standing(wish: &Wish, plan: &LimePlan) -> Vec<Object> {
    let (name, ring_port) = (&wish.name, wish.ring_port());
    let of = |component: &str| json!({ names::DEPLOYMENT_LABEL: name, names::COMPONENT_LABEL: component });
    let ring = json!({ "spec": {
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": of("worker"),
        "ports": [{ "name": "ring", "port": ring_port, "targetPort": ring_port, "protocol": "TCP" }],
    }});
    // Workers are reached by their own ring alone; the gateway by anyone who reaches the namespace.
    let peers = json!([{ "podSelector": { "matchLabels": of("worker") } }, { "podSelector": { "matchLabels": of("gateway") } }]);
    let ports = json!([{ "port": ring_port, "protocol": "TCP" }]);
    // A gateway on its node's network comes from the node's address, which no selector of pods knows.
    let on_node = wish.gateway_template().is_some_and(|template| template.host_network);
    let from = if on_node { json!({ "ports": ports }) } else { json!({ "from": peers, "ports": ports }) };
    let workers = policy(&of("worker"), json!([from]));
    let gateway = policy(&of("gateway"), json!([{ "ports": [{ "port": http_port(wish), "protocol": "TCP" }] }]));
    // Workers are pods without a controller that scales, of which Kubernetes can count only those that must stay, as a number.
    let budget = json!({ "spec": {
        "minAvailable": plan.spec.assignments.len().saturating_sub(1),
        "selector": { "matchLabels": of("worker") },
        // A pod that does not serve must not stand in the way of a drain.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }});
    let mut objects = exposure::exposure(wish);
    objects.extend([
        Object::new(wish, Kind::Service, names::ring(name), "worker", ring),
        Object::new(wish, Kind::NetworkPolicy, names::ring(name), "worker", workers),
        Object::new(wish, Kind::NetworkPolicy, names::gateway(name), "gateway", gateway),
        Object::new(wish, Kind::PodDisruptionBudget, names::ring(name), "worker", budget),
    ]);
    objects
}

fn policy(selector: &Value, ingress: Value) -> Value {
    json!({ "spec": { "podSelector": { "matchLabels": selector }, "policyTypes": ["Ingress"], "ingress": ingress } })
}
