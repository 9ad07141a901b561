//! How clients reach a deployment from outside.

use super::*;

fn front(endpoint: Value) -> (Value, Option<Value>) {
    let objects = all(json!({ "endpoint": endpoint }), |_| {});
    let of = |kind: Kind| objects.iter().find(|object| object.kind == kind && object.name == "m").cloned();
    let (service, ingress) = (of(Kind::Service).unwrap().body, of(Kind::Ingress).map(|object| object.body));
    known_fields::<core::Service>(&service);
    ingress.iter().for_each(known_fields::<networking::Ingress>);
    (service, ingress)
}

#[test]
fn without_a_word_the_service_is_the_clusters_own() {
    let (service, ingress) = front(json!({}));
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert!(ingress.is_none());
}

#[test]
fn a_service_is_as_its_cloud_wants_it() {
    let (service, _) = front(json!({ "port": 443, "service": {
        "type": "LoadBalancer", "annotations": { "cloud/nlb": "yes" }, "labels": { "team": "a" }, "nodePort": 30080,
        "loadBalancerClass": "metal", "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "PreferDualStack",
    }}));
    let expected = json!({
        "type": "LoadBalancer", "loadBalancerClass": "metal", "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "externalTrafficPolicy": "Local", "ipFamilyPolicy": "PreferDualStack",
        "ports": [{ "name": "http", "port": 443, "targetPort": 8000, "protocol": "TCP", "nodePort": 30080 }],
        "selector": { "lime.dev/deployment": "m", "lime.dev/component": "gateway" },
    });
    assert_eq!(service["spec"], expected);
    assert_eq!(service["metadata"]["annotations"], json!({ "cloud/nlb": "yes" }));
    assert_eq!(
        (&service["metadata"]["labels"]["team"], &service["metadata"]["labels"]["lime.dev/deployment"]),
        (&json!("a"), &json!("m"))
    );
}

#[test]
fn an_ingress_lets_the_api_in_and_nothing_else_unless_told() {
    let (_, ingress) = front(json!({ "ingress": {
        "className": "traefik", "hosts": ["a.example", "b.example"], "tlsSecretName": "cert", "annotations": { "issuer": "x" },
    }}));
    let ingress = ingress.unwrap();
    let backend = json!({ "service": { "name": "m", "port": { "name": "http" } } });
    let http = json!({ "paths": [{ "path": "/v1", "pathType": "Prefix", "backend": backend }] });
    let expected = json!({
        "ingressClassName": "traefik", "tls": [{ "secretName": "cert", "hosts": ["a.example", "b.example"] }],
        "rules": [{ "host": "a.example", "http": http }, { "host": "b.example", "http": http }],
    });
    assert_eq!(ingress["spec"], expected);
    assert_eq!(ingress["metadata"]["annotations"], json!({ "issuer": "x" }));
    let (_, any) = front(json!({ "ingress": { "path": "/" } }));
    let rules = &any.unwrap()["spec"]["rules"];
    assert_eq!((rules[0].get("host"), &rules[0]["http"]["paths"][0]["path"]), (None, &json!("/")));
}
