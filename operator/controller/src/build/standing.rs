//! What stands whatever the plan: Services and what leads to them, NetworkPolicies, the disruption budget.

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        networking::v1::{
            NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use lime_api::LimePlan;

use super::{Object, exposure, http_port, selector, status_port};
use crate::{names, wish::Wish};

/// Services, NetworkPolicies and the disruption budget of a deployment by `plan`.
pub fn standing(wish: &Wish, plan: &LimePlan) -> Vec<Object> {
    let name = &wish.name;
    let mut objects = exposure::exposure(wish);
    objects.extend([
        Object::new(wish, names::ring(name), "worker", ring(wish)),
        Object::new(wish, names::ring(name), "worker", workers_policy(wish)),
        Object::new(wish, names::gateway(name), "gateway", gateway_policy(wish)),
        Object::new(wish, names::ring(name), "worker", budget(wish, plan)),
    ]);
    objects
}

/// By which workers have names.
fn ring(wish: &Wish) -> Service {
    let port = ServicePort {
        name: Some("ring".to_owned()),
        port: wish.ring_port().into(),
        target_port: Some(IntOrString::Int(wish.ring_port().into())),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        selector: Some(selector(wish, "worker")),
        ports: Some(vec![port]),
        ..Default::default()
    };
    Service { spec: Some(spec), ..Default::default() }
}

/// Workers are reached by their own ring alone.
fn workers_policy(wish: &Wish) -> NetworkPolicy {
    let peer = |component| NetworkPolicyPeer { pod_selector: Some(pods(wish, component)), ..Default::default() };
    // A gateway on its node's network comes from the node's address, which no selector of pods knows.
    let on_node = wish.gateway_template().is_some_and(|template| template.host_network);
    let from = (!on_node).then(|| vec![peer("worker"), peer("gateway")]);
    admits(wish, "worker", NetworkPolicyIngressRule { from, ports: Some(vec![port(wish.ring_port())]) })
}

/// The gateway is reached by anyone who reaches the namespace.
fn gateway_policy(wish: &Wish) -> NetworkPolicy {
    let mut ports = vec![http_port(wish), status_port(wish)];
    ports.dedup();
    let ports = ports.into_iter().map(port).collect();
    admits(wish, "gateway", NetworkPolicyIngressRule { ports: Some(ports), ..Default::default() })
}

fn admits(wish: &Wish, component: &str, rule: NetworkPolicyIngressRule) -> NetworkPolicy {
    let spec = NetworkPolicySpec {
        pod_selector: Some(pods(wish, component)),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![rule]),
        ..Default::default()
    };
    NetworkPolicy { spec: Some(spec), ..Default::default() }
}

fn port(port: u16) -> NetworkPolicyPort {
    let port = Some(IntOrString::Int(port.into()));
    NetworkPolicyPort { port, protocol: Some("TCP".to_owned()), ..Default::default() }
}

fn pods(wish: &Wish, component: &str) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(wish, component)), ..Default::default() }
}

/// Workers are pods without a controller that scales, of which Kubernetes can count only those that must stay, as a number.
fn budget(wish: &Wish, plan: &LimePlan) -> PodDisruptionBudget {
    let stay = plan.spec.assignments.len().saturating_sub(1);
    let spec = PodDisruptionBudgetSpec {
        min_available: Some(IntOrString::Int(i32::try_from(stay).unwrap_or(i32::MAX))),
        selector: Some(pods(wish, "worker")),
        // A pod that does not serve must not stand in the way of a drain.
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..Default::default()
    };
    PodDisruptionBudget { spec: Some(spec), ..Default::default() }
}
