//! A LimeDeployment as the API server keeps it: defaults, dry runs, diffs, status apart from spec.

use lime_cluster_tests::{Kubectl, repository};
use serde_json::json;

use crate::deployment;

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn a_source_alone_gets_every_default() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-defaults").unwrap();
    let scope = ["-n", namespace.name()];
    let object = deployment("least", "{model: {source: 'hf://org/name'}}");
    cluster.run_with(&[&scope[..], &["apply", "-f", "-"]].concat(), &object).unwrap();
    let kept = cluster.get(&[&scope[..], &["limed", "least"]].concat()).unwrap();
    let spec = &kept["spec"];
    assert_eq!(spec["serving"]["maxContextTokens"], 4096);
    assert_eq!(spec["nodes"]["minCount"], 1);
    assert_eq!(spec["offload"]["policy"], "Auto");
    assert_eq!(spec["placement"]["approval"], "Automatic");
    assert_eq!(spec["placement"]["replan"]["minImprovementPercent"], 15);
    assert_eq!(spec["failure"], json!({"maxRestarts": 5, "nodeLossGraceSeconds": 40}));
    assert_eq!(spec["endpoint"]["port"], 8000);
    assert_eq!(spec["transport"]["security"], "MutualTLS");
    assert!(!spec.to_string().contains("null"), "{spec}");
    // What was applied is what is wanted: nothing is left to change.
    let diff = cluster.answer(&[&scope[..], &["diff", "-f", "-"]].concat(), &object).unwrap();
    assert!(diff.ok && diff.stdout.is_empty(), "{}{}", diff.stdout, diff.stderr);
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn a_status_is_written_apart_and_shown() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-status").unwrap();
    let scope = ["-n", namespace.name()];
    cluster
        .run_with(
            &[&scope[..], &["apply", "-f", "-"]].concat(),
            &deployment("shown", "{model: {source: 'hf://org/name'}}"),
        )
        .unwrap();
    let status = json!({"status": {
        "shardsReady": "2/3",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ShardCrashed", "message": "node-2: out of memory",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }})
    .to_string();
    let patch = [&scope[..], &["patch", "limed", "shown", "--type=merge", "-p", &status]].concat();
    cluster.run(&patch).unwrap();
    let untouched = cluster.get(&[&scope[..], &["limed", "shown"]].concat()).unwrap();
    assert!(untouched["status"].is_null(), "a status was written with the spec: {untouched}");
    cluster.run(&[&patch[..], &["--subresource=status"]].concat()).unwrap();
    let kept = cluster.get(&[&scope[..], &["limed", "shown"]].concat()).unwrap();
    assert_eq!(kept["metadata"]["generation"], 1, "a status is no change of the spec");
    let row = cluster.run(&[&scope[..], &["get", "limed", "shown", "-o", "wide", "--no-headers"]].concat()).unwrap();
    for cell in ["hf://org/name", "False", "2/3", "ShardCrashed", "node-2: out of memory"] {
        assert!(row.contains(cell), "{cell:?} is missing in: {row}");
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn one_name_lives_in_two_namespaces() {
    let cluster = Kubectl::connect().unwrap();
    for namespace in ["lime-test-one", "lime-test-two"].map(|name| cluster.namespace(name).unwrap()) {
        let object = deployment("same", "{model: {source: 'hf://org/name'}}");
        cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &object).unwrap();
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn the_manifests_are_accepted() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("llm").unwrap();
    let manifests = [
        "manifests/llama-70b.yaml",
        "manifests/llama-3b-q4.yaml",
        "manifests/qwen3-8b-q4.yaml",
        "manifests/kubernetes/router.yaml",
    ];
    for manifest in manifests {
        let file = repository().join(manifest).display().to_string();
        cluster.run(&["-n", namespace.name(), "apply", "--dry-run=server", "--validate=strict", "-f", &file]).unwrap();
    }
}
