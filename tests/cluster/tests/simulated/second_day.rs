//! What Kubernetes' own controllers make of a deployment: its disruption budget, its scale, and nodes that other pods have filled.

use serde_json::{Value, json};

use crate::{PATIENCE, Stage, condition, crashes::settled, deployment, operator::Operator};

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn budgets_are_counted_models_sleep_and_full_nodes_are_left_out() {
    let stage = Stage::new(4, 60);
    let namespace = stage.cluster.namespace("lime-test-second-day").unwrap();
    let scope = ["-n", namespace.name()];
    let _operator = Operator::start();
    let run = |arguments: &[&str]| stage.cluster.run(&[&scope[..], arguments].concat());
    let get = |arguments: &[&str]| stage.cluster.get(&[&scope[..], arguments].concat());
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("m", "")).unwrap();
    settled(&stage, &scope, 0, PATIENCE);
    let shards = get(&["limed", "m"]).unwrap()["status"]["shards"].as_array().map_or(0, Vec::len);

    let mut last = Value::Null;
    let counted = stage.cluster.eventually("one worker may be evicted", PATIENCE, || {
        last = get(&["pdb", "m-ring"])?;
        Ok((last["status"]["disruptionsAllowed"] == 1).then_some(()))
    });
    counted.unwrap_or_else(|error| panic!("{error}: {last:#}"));
    assert_eq!(last["spec"]["minAvailable"], shards - 1);

    // As an autoscaler does it.
    let workers = || {
        let pods = get(&["pods", "-l", "lime.dev/component=worker"])?;
        Ok::<_, anyhow::Error>(pods["items"].as_array().map_or(0, Vec::len))
    };
    run(&["scale", "limedeployment", "m", "--replicas=0"]).unwrap();
    stage
        .cluster
        .eventually("it sleeps", PATIENCE, || {
            let asleep = condition(&get(&["limed", "m"])?, "Ready").1 == "Suspended";
            Ok((asleep && workers()? == 0).then_some(()))
        })
        .unwrap();
    let asleep = get(&["limed", "m"]).unwrap();
    assert_eq!(asleep["status"]["replicas"], 0);
    run(&["scale", "limedeployment", "m", "--replicas=1"]).unwrap();
    settled(&stage, &scope, 2, PATIENCE);
    run(&["delete", "limed", "m", "--timeout=60s"]).unwrap();

    // A pod that uses nothing and has requested all but half a mebibyte of a node.
    let full = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "greedy" }, "spec": {
        "nodeName": "simulated-000", "automountServiceAccountToken": false,
        "containers": [{ "name": "c", "image": "none", "resources": { "requests": { "memory": "16776704Ki" } } }],
    }});
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &full.to_string()).unwrap();
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("late", "")).unwrap();
    let mut late = Value::Null;
    let elsewhere = stage.cluster.eventually("the full node is left out", PATIENCE, || {
        late = get(&["limed", "late"])?;
        Ok((condition(&late, "Ready").0 == "True").then_some(()))
    });
    elsewhere.unwrap_or_else(|error| panic!("{error}: {:#}", late["status"]));
    let on: Vec<&str> =
        late["status"]["shards"].as_array().unwrap().iter().filter_map(|shard| shard["node"].as_str()).collect();
    assert!(!on.is_empty() && !on.contains(&"simulated-000"), "{on:?}");
    run(&["delete", "pod", "greedy", "--grace-period=0", "--force"]).unwrap();
}
