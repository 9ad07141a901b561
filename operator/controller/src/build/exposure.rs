//! How clients reach the gateway: its Service, and an Ingress where one is asked for.

use serde_json::{Value, json};

use super::{Kind, Object, http_port, merge};
use crate::{names, wish::Wish};

/// The Service in front of the gateway, and the Ingress in front of that.
pub(super) fn exposure(wish: &Wish) -> Vec<Object> {
    [Some(service(wish)), ingress(wish)].into_iter().flatten().collect()
}

fn service(wish: &Wish) -> Object {
    let given = wish.spec.endpoint.service.clone().unwrap_or_default();
    let selector = json!({ names::DEPLOYMENT_LABEL: wish.name, names::COMPONENT_LABEL: "gateway" });
    let mut port =
        json!({ "name": "http", "port": wish.spec.endpoint.port, "targetPort": http_port(wish), "protocol": "TCP" });
    if let Some(number) = given.node_port {
        port["nodePort"] = number.into();
    }
    let mut spec = json!({ "type": given.kind, "selector": selector, "ports": [port] });
    if let Some(class) = &given.load_balancer_class {
        spec["loadBalancerClass"] = class.clone().into();
    }
    if !given.load_balancer_source_ranges.is_empty() {
        spec["loadBalancerSourceRanges"] = json!(given.load_balancer_source_ranges);
    }
    if let Some(policy) = given.external_traffic_policy {
        spec["externalTrafficPolicy"] = json!(policy);
    }
    if let Some(policy) = given.ip_family_policy {
        spec["ipFamilyPolicy"] = json!(policy);
    }
    let mut rest = json!({ "spec": spec });
    describe(&mut rest, &given.labels, &given.annotations);
    Object::new(wish, Kind::Service, wish.name.clone(), "gateway", rest)
}

fn ingress(wish: &Wish) -> Option<Object> {
    let given = wish.spec.endpoint.ingress.as_ref()?;
    let service = json!({ "name": wish.name, "port": { "name": "http" } });
    let http = json!({ "paths": [{ "path": given.path, "pathType": "Prefix", "backend": { "service": service } }] });
    let rules: Vec<Value> = if given.hosts.is_empty() {
        vec![json!({ "http": http })]
    } else {
        given.hosts.iter().map(|host| json!({ "host": host, "http": http })).collect()
    };
    let mut spec = json!({ "rules": rules });
    if let Some(class) = &given.class_name {
        spec["ingressClassName"] = class.clone().into();
    }
    if let Some(secret) = &given.tls_secret_name {
        let mut tls = json!({ "secretName": secret });
        if !given.hosts.is_empty() {
            tls["hosts"] = json!(given.hosts);
        }
        spec["tls"] = json!([tls]);
    }
    let mut rest = json!({ "spec": spec });
    describe(&mut rest, &given.labels, &given.annotations);
    Some(Object::new(wish, Kind::Ingress, wish.name.clone(), "gateway", rest))
}

type Map = std::collections::BTreeMap<String, String>;

fn describe(object: &mut Value, labels: &Map, annotations: &Map) {
    for (key, map) in [("labels", labels), ("annotations", annotations)] {
        if !map.is_empty() {
            merge(&mut object["metadata"][key], json!(map));
        }
    }
}
