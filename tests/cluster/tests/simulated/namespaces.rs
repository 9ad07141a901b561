//! An operator of some namespaces looks after these, and leaves the others alone.

use serde_json::Value;

use crate::{PATIENCE, Stage, condition, deployment, operator::Operator};

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn deployments_elsewhere_are_left_alone() {
    let stage = Stage::new(4, 120);
    let names = ["lime-test-one", "lime-test-two", "lime-test-elsewhere"];
    let namespaces = names.map(|name| stage.cluster.namespace(name).unwrap());
    let _operator = Operator::of_namespaces("lime-test-one,lime-test-two");
    for namespace in &namespaces {
        stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("m", "")).unwrap();
    }
    let get = |namespace: &str| stage.cluster.get(&["-n", namespace, "limed", "m"]);
    for watched in &names[..2] {
        let mut last = Value::Null;
        let ready = stage.cluster.eventually("it is served", PATIENCE, || {
            last = get(watched)?;
            Ok((condition(&last, "Ready").0 == "True").then_some(()))
        });
        ready.unwrap_or_else(|error| panic!("{watched}: {error}: {:#}", last["status"]));
    }
    assert!(get(names[2]).unwrap()["status"].is_null(), "nobody looks after it");
    let pods = stage.cluster.get(&["-n", names[2], "pods"]).unwrap();
    assert_eq!(pods["items"].as_array().map(Vec::len), Some(0));
    // What changes is seen in both.
    for watched in &names[..2] {
        stage
            .cluster
            .run(&["-n", watched, "patch", "limed", "m", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])
            .unwrap();
        stage
            .cluster
            .eventually("it sleeps", PATIENCE, || {
                Ok((condition(&get(watched)?, "Ready").1 == "Suspended").then_some(()))
            })
            .unwrap();
    }
}
