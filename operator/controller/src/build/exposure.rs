//! How clients reach the gateway: its Service, and an Ingress where one is asked for.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        networking::v1::{
            HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
            IngressSpec, IngressTLS, ServiceBackendPort,
        },
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use serde::Serialize;

use super::{Object, api_scheme, http_port, selector};
use crate::wish::Wish;

/// The Service in front of the gateway, and the Ingress in front of that.
pub(super) fn exposure(wish: &Wish) -> Vec<Object> {
    [Some(service(wish)), ingress(wish)].into_iter().flatten().collect()
}

fn service(wish: &Wish) -> Object {
    let given = wish.spec.endpoint.service.clone().unwrap_or_default();
    let port = ServicePort {
        name: Some(api_scheme(wish).to_owned()),
        // Ingress controllers ask by it.
        app_protocol: wish.spec.endpoint.tls_secret_ref.is_some().then(|| "https".to_owned()),
        port: wish.spec.endpoint.port,
        target_port: Some(IntOrString::Int(http_port(wish).into())),
        protocol: Some("TCP".to_owned()),
        node_port: given.node_port,
    };
    let ranges = given.load_balancer_source_ranges;
    let spec = ServiceSpec {
        type_: word(given.kind),
        selector: Some(selector(wish, "gateway")),
        ports: Some(vec![port]),
        load_balancer_class: given.load_balancer_class,
        load_balancer_source_ranges: (!ranges.is_empty()).then_some(ranges),
        external_traffic_policy: given.external_traffic_policy.and_then(word),
        ip_family_policy: given.ip_family_policy.and_then(word),
        ..Default::default()
    };
    let metadata = described(&given.labels, &given.annotations);
    let service = Service { metadata, spec: Some(spec), ..Default::default() };
    Object::new(wish, wish.name.clone(), "gateway", service)
}

fn ingress(wish: &Wish) -> Option<Object> {
    let given = wish.spec.endpoint.ingress.as_ref()?;
    let port = ServiceBackendPort { name: Some(api_scheme(wish).to_owned()), ..Default::default() };
    let service = IngressServiceBackend { name: wish.name.clone(), port: Some(port) };
    let path = HTTPIngressPath {
        path: Some(given.path.clone()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend { service: Some(service), ..Default::default() },
    };
    let rule = |host: Option<&String>| IngressRule {
        host: host.cloned(),
        http: Some(HTTPIngressRuleValue { paths: vec![path.clone()] }),
    };
    let hosts = (!given.hosts.is_empty()).then(|| given.hosts.clone());
    let rules =
        hosts.as_ref().map_or_else(|| vec![rule(None)], |hosts| hosts.iter().map(|host| rule(Some(host))).collect());
    let tls = given.tls_secret_name.clone().map(|secret| vec![IngressTLS { secret_name: Some(secret), hosts }]);
    let spec =
        IngressSpec { rules: Some(rules), ingress_class_name: given.class_name.clone(), tls, ..Default::default() };
    let metadata = described(&given.labels, &given.annotations);
    let ingress = Ingress { metadata, spec: Some(spec), ..Default::default() };
    Some(Object::new(wish, wish.name.clone(), "gateway", ingress))
}

type Map = BTreeMap<String, String>;

fn described(labels: &Map, annotations: &Map) -> ObjectMeta {
    let some = |map: &Map| (!map.is_empty()).then(|| map.clone());
    ObjectMeta { labels: some(labels), annotations: some(annotations), ..Default::default() }
}

/// One of a kind's words, as it is written in YAML.
fn word(choice: impl Serialize) -> Option<String> {
    serde_json::to_value(choice).ok()?.as_str().map(str::to_owned)
}
