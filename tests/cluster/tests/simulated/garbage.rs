//! Profiles and plans that somebody wrote by hand, as wrong as the API server lets them be: the operator goes on.

use crate::{PATIENCE, Stage, condition, crashes::settled, deployment, operator::Operator};

const LARGEST: i64 = i64::MAX;
const SMALLEST: i64 = i64::MIN;

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn garbage_in_profiles_and_plans_never_ends_the_operator() {
    let stage = Stage::new(6, 60);
    let namespace = stage.cluster.namespace("lime-test-garbage").unwrap();
    let scope = ["-n", namespace.name()];
    let mut operator = Operator::start();
    for (index, status) in statuses().iter().enumerate() {
        let node = format!("simulated-{index:03}");
        let patch = serde_json::json!({ "status": status }).to_string();
        let change = ["patch", "limenodeprofile", &node, "--subresource=status", "--type=merge", "-p", &patch];
        stage.cluster.run(&change).unwrap();
    }
    // A profile of no node at all.
    let nobody = "{apiVersion: lime.dev/v1alpha1, kind: LimeNodeProfile, metadata: {name: nobody, labels: \
                  {lime.dev/simulated: 'true'}}, spec: {memoryBudget: '0', excluded: true}}";
    stage.cluster.run_with(&["apply", "-f", "-"], nobody).unwrap();
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("m", "")).unwrap();
    settled(&stage, &scope, 0, PATIENCE);
    let sound = stage.cluster.get(&[&scope[..], &["limed", "m"]].concat()).unwrap();
    let uid = sound["metadata"]["uid"].as_str().unwrap();
    assert!(sound["status"]["shards"].as_array().unwrap().iter().all(|shard| {
        let node = shard["node"].as_str().unwrap();
        node > format!("simulated-{:03}", statuses().len() - 1).as_str()
    }));

    for (index, document) in documents().iter().enumerate() {
        let name = format!("garbage-{index}");
        let object = serde_json::json!({
            "apiVersion": "lime.dev/v1alpha1", "kind": "LimePlan",
            "metadata": { "name": name, "labels": { "lime.dev/deployment": "m", "app.kubernetes.io/managed-by": "lime-operator" },
                "ownerReferences": [{ "apiVersion": "lime.dev/v1alpha1", "kind": "LimeDeployment", "name": "m", "uid": uid }] },
            "spec": { "deployment": "m", "inputHash": "x", "wishHash": "x", "feasible": true, "nodes": -7,
                "deploymentGeneration": SMALLEST,
                "assignments": [{ "node": "simulated-005", "layers": "9-1,x", "layerCount": -1, "memoryBytes": SMALLEST,
                    "pinnedBytes": LARGEST, "streamedBytes": LARGEST }, { "node": "", "memoryBytes": LARGEST }],
                "prediction": { "timePerTokenMilliseconds": -5, "timePerTokenMicroseconds": SMALLEST },
                "document": document },
        });
        stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &object.to_string()).unwrap();
        // In force by the status, which is the only place that says so.
        let patch = format!(r#"{{"status":{{"currentPlan":"{name}"}}}}"#);
        let change = ["patch", "limed", "m", "--subresource=status", "--type=merge", "-p", &patch];
        stage.cluster.run(&[&scope[..], &change].concat()).unwrap();
        let mut last = String::new();
        let back = stage.cluster.eventually("a sound plan is back", PATIENCE, || {
            let one = stage.cluster.get(&[&scope[..], &["limed", "m"]].concat())?;
            last = one["status"].to_string();
            let well = one["status"]["currentPlan"] != name.as_str() && condition(&one, "Ready").0 == "True";
            Ok(well.then_some(()))
        });
        let begin: String = document.chars().take(40).collect();
        back.unwrap_or_else(|error| panic!("{error} after {begin:?}: {last}"));
        assert!(operator.alive());
    }
    assert_eq!(operator.figure("lime_operator_reconcile_errors_total{reason=\"step\"}"), None, "a step panicked");
    stage.cluster.run(&[&scope[..], &["delete", "limed", "m", "--timeout=60s"]].concat()).unwrap();
    assert!(operator.alive());
}

/// What the schema admits and nobody measures.
fn statuses() -> Vec<serde_json::Value> {
    let links: Vec<_> = (0..500)
        .map(|index| serde_json::json!({ "peer": format!("p{index}"), "bandwidthBitsPerSecond": LARGEST, "roundTripMicroseconds": SMALLEST }))
        .collect();
    vec![
        serde_json::json!({ "memory": { "totalBytes": SMALLEST, "availableBytes": LARGEST, "limeBytes": LARGEST },
            "memoryBandwidthBytesPerSecond": SMALLEST, "matrixOperationsPerSecond": 0 }),
        serde_json::json!({ "architecture": "🍋".repeat(2000), "links": links }),
        serde_json::json!({ "memory": { "totalBytes": -1, "availableBytes": -1 }, "disk": { "readBytesPerSecond": SMALLEST,
            "freeBytes": SMALLEST, "totalBytes": LARGEST }, "linkEndpoint": "", "lent": "everything",
            "memoryBandwidthBytesPerSecond": LARGEST, "cores": -2_147_483_648_i64 }),
    ]
}

/// Documents of plans that cannot be followed.
fn documents() -> Vec<String> {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    vec![String::new(), deep]
}
