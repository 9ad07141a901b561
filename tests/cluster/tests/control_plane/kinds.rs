//! The kinds as `kubectl` shows them: columns, short names, explanations.

use lime_cluster_tests::Kubectl;
use serde_json::Value;

fn header(cluster: &Kubectl, arguments: &[&str]) -> Vec<String> {
    let table = cluster.run(arguments).unwrap();
    table.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn columns_are_the_documented_ones() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-columns").unwrap();
    let object = crate::deployment("columns", "{model: {source: 'hf://org/name'}}");
    cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &object).unwrap();
    let narrow = header(&cluster, &["-n", namespace.name(), "get", "limed"]);
    assert_eq!(narrow, ["NAME", "MODEL", "READY", "SHARDS", "TPOT(MS)", "REASON", "AGE"]);
    let wide = header(&cluster, &["-n", namespace.name(), "get", "limed", "-o", "wide"]);
    assert_eq!(wide[narrow.len()..], ["ENDPOINT", "NODES", "OFFLOADED", "PREDICTED(MS)", "PLAN", "MESSAGE"]);
    let plan =
        "{apiVersion: lime.dev/v1alpha1, kind: LimePlan, metadata: {name: p}, spec: {deployment: a, inputHash: h}}";
    cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], plan).unwrap();
    let plans = header(&cluster, &["-n", namespace.name(), "get", "limeplans"]);
    assert_eq!(plans, ["NAME", "DEPLOYMENT", "STATE", "NODES", "OFFLOADED", "TPOT(MS)", "TTFT(MS)", "AGE"]);
    let profile =
        "{apiVersion: lime.dev/v1alpha1, kind: LimeNodeProfile, metadata: {name: lime-test-columns}, spec: {}}";
    cluster.run_with(&["apply", "-f", "-"], profile).unwrap();
    let profiles = header(&cluster, &["get", "limenodeprofiles"]);
    assert_eq!(profiles, ["NAME", "READY", "ARCH", "ACCELERATOR", "MEMORY-FREE", "DISK-READ", "LENT", "AGE"]);
    cluster.run(&["delete", "limenodeprofile", "lime-test-columns"]).unwrap();
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn every_field_of_every_kind_is_explained() {
    let cluster = Kubectl::connect().unwrap();
    let definitions = cluster.get(&["crd"]).unwrap();
    let mut seen = 0;
    for definition in definitions["items"].as_array().unwrap() {
        if definition["spec"]["group"] != "lime.dev" {
            continue;
        }
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert!(schema["description"].is_string(), "{kind} is not explained");
        seen += explained(kind, &schema["properties"]["spec"]) + explained(kind, &schema["properties"]["status"]);
        let singular = definition["spec"]["names"]["singular"].as_str().unwrap();
        let told = cluster.run(&["explain", singular, "--recursive"]).unwrap();
        assert!(told.contains("spec\t<Object>"), "{kind}: {told}");
    }
    assert!(seen > 60, "only {seen} fields were seen");
}

/// Checks the fields below the schema, and counts them.
fn explained(path: &str, schema: &Value) -> usize {
    let mut seen = 0;
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let below = format!("{path}.{name}");
        assert!(field["description"].as_str().is_some_and(|words| !words.is_empty()), "{below} is not explained");
        seen += 1 + explained(&below, field) + explained(&below, &field["items"]);
    }
    seen
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn kinds_have_short_names_and_a_category() {
    let cluster = Kubectl::connect().unwrap();
    let listed = cluster.run(&["api-resources", "--api-group=lime.dev", "--categories=lime", "--no-headers"]).unwrap();
    assert!(listed.lines().any(|line| line.contains("limed ") && line.contains("LimeDeployment")), "{listed}");
    let definitions = cluster.get(&["crd"]).unwrap();
    let ours =
        definitions["items"].as_array().unwrap().iter().filter(|each| each["spec"]["group"] == "lime.dev").count();
    assert_eq!(listed.lines().count(), ours, "a kind is not in the category lime: {listed}");
}
