//! A kind of LIME that the API server does not know any more: the operator is not ready and says why, and goes on when it is back.

use lime_cluster_tests::{Kubectl, repository};

use crate::{PATIENCE, Stage, crashes::settled, deployment, operator::Operator};

/// Brings every kind back, whatever became of the test.
struct Restored<'a>(&'a Kubectl);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        let kinds = repository().join("crds/lime.dev.yaml").display().to_string();
        let applied = self.0.run(&["apply", "--server-side", "--force-conflicts", "-f", &kinds]);
        let wait = ["wait", "crd", "limeplans.lime.dev", "--for=condition=Established", "--timeout=30s"];
        if let Err(error) = applied.and_then(|_| self.0.run(&wait)) {
            eprintln!("the kinds could not be brought back: {error}");
        }
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn a_kind_that_is_gone_is_named_and_waited_for() {
    let stage = Stage::new(3, 60);
    let namespace = stage.cluster.namespace("lime-test-kinds-gone").unwrap();
    let scope = ["-n", namespace.name()];
    let operator = Operator::start();
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("m", "")).unwrap();
    settled(&stage, &scope, 0, PATIENCE);
    assert!(operator.readiness().contains("200 OK"), "{}", operator.readiness());

    let restored = Restored(&stage.cluster);
    stage.cluster.run(&["delete", "crd", "limeplans.lime.dev", "--timeout=30s"]).unwrap();
    let mut said = String::new();
    let told = stage.cluster.eventually("it is not ready and names the kind", PATIENCE * 2, || {
        said = operator.readiness();
        Ok((said.contains("503") && said.contains("LimePlan") && said.contains("crds.enabled")).then_some(()))
    });
    told.unwrap_or_else(|error| panic!("{error}: {said}"));
    let event = |reason: &str| {
        let events = stage.cluster.get(&["-n", crate::fleet::SYSTEM, "events.events.k8s.io"])?;
        let found = events["items"].as_array().into_iter().flatten().any(|event| {
            event["reason"] == reason
                && event["regarding"]["kind"] == "Pod"
                && event["regarding"]["name"] == "lime-operator"
        });
        Ok(found.then_some(()))
    };
    stage.cluster.eventually("an event of its pod says so", PATIENCE, || event("KindsMissing")).unwrap();

    drop(restored);
    stage
        .cluster
        .eventually("it is ready again", PATIENCE, || Ok(operator.readiness().contains("200 OK").then_some(())))
        .unwrap();
    stage.cluster.eventually("and says so", PATIENCE, || event("KindsFound")).unwrap();
    // The plan went with its kind, and another is made.
    settled(&stage, &scope, 0, PATIENCE);
}
