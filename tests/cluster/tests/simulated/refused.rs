//! What Kubernetes refuses to make is told where people look: in the conditions.

use crate::{PATIENCE, Stage, condition, deployment, operator::Operator};

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn pods_that_may_not_be_made_are_told_in_the_conditions() {
    let stage = Stage::new(3, 60);
    let _operator = Operator::start();
    let (strict, small) =
        (stage.cluster.namespace("lime-test-strict").unwrap(), stage.cluster.namespace("lime-test-small").unwrap());
    let label = ["label", "namespace", strict.name(), "pod-security.kubernetes.io/enforce=restricted"];
    stage.cluster.run(&label).unwrap();
    // One pod at a time: the inspection fits, a ring does not.
    let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: small}, spec: {hard: {pods: '1'}}}";
    stage.cluster.run_with(&["-n", small.name(), "apply", "-f", "-"], quota).unwrap();
    for (namespace, kind, reason, words) in [
        (strict.name(), "Accepted", "InspectionFailed", ["PodSecurity", "hostPath", "pvc://"]),
        (small.name(), "ShardsReady", "ShardPending", ["exceeded quota", "pods=1", "cannot be made"]),
    ] {
        stage.cluster.run_with(&["-n", namespace, "apply", "-f", "-"], &deployment("m", "")).unwrap();
        let mut last = String::new();
        let told = stage.cluster.eventually("the refusal is told", PATIENCE, || {
            let one = stage.cluster.get(&["-n", namespace, "limed", "m"])?;
            let found = condition(&one, kind);
            last = format!("{found:?}");
            let ready = condition(&one, "Ready");
            Ok((found.0 == "False"
                && found.1 == reason
                && words.iter().all(|word| found.2.contains(word))
                && ready.2 == found.2)
                .then_some(()))
        });
        told.unwrap_or_else(|error| panic!("{error}: {kind} says {last}"));
        println!("{kind}: {last}");
    }
}
