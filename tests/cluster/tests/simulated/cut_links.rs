//! A link between two nodes that are both there: named, planned around after the grace time, and forgotten when it is well.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{PATIENCE, Stage, condition, crashes::settled, deployment, operator::Operator};

const PLACEMENT: &str = ", placement: {replan: {stabilizationSeconds: 5}}, failure: {nodeLossGraceSeconds: 10}";

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn a_cut_is_named_planned_around_and_forgotten_when_it_is_mended() {
    let stage = Stage::new(4, 34);
    let namespace = stage.cluster.namespace("lime-test-cut-links").unwrap();
    let scope = ["-n", namespace.name()];
    let operator = Operator::start();
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("m", PLACEMENT)).unwrap();
    settled(&stage, &scope, 0, PATIENCE);
    let get = || stage.cluster.get(&["-n", namespace.name(), "limed", "m"]);
    let first = get().unwrap();
    let ring: Vec<String> = nodes(&first);
    assert_eq!(ring.len(), 4, "all are needed to keep the model in memory");
    let (from, to) = (&ring[0], &ring[1]);
    measured(&stage, from, to, "2026-01-01T00:00:00Z");

    let began = Instant::now();
    stage.cuts.between(from, to);
    let told = stage.cluster.eventually("the link is named", PATIENCE, || {
        let one = get()?;
        let (truth, reason, message) = condition(&one, "Degraded");
        let named = message.contains(from.as_str()) && message.contains(to.as_str());
        Ok((truth == "True" && reason == "LinkLost" && named).then_some(one))
    });
    let told = told.unwrap_or_else(|error| panic!("{error}: {:#}", get().unwrap()["status"]));
    println!("a cut: named after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(condition(&told, "Replanning").1, "LinkLost");
    let around = stage.cluster.eventually("it is planned around", PATIENCE, || {
        let one = get()?;
        let served =
            condition(&one, "Ready").0 == "True" && one["status"]["currentPlan"] != first["status"]["currentPlan"];
        Ok(served.then_some(one))
    });
    let around = around.unwrap_or_else(|error| panic!("{error}: {:#}", get().unwrap()["status"]));
    println!("a cut: planned around and Ready after {:.1} s", began.elapsed().as_secs_f64());
    assert!(began.elapsed().as_secs() >= 10, "a link is waited for as a node is");
    assert_eq!(around["status"]["lostLinks"].as_array().map(Vec::len), Some(1), "{:#}", around["status"]);
    let ring = nodes(&around);
    let neighbours = |one: &String, other: &String| {
        let next = ring.iter().cycle().skip(1);
        ring.iter().zip(next).any(|(a, b)| (a == one && b == other) || (a == other && b == one))
    };
    assert!(!neighbours(from, to), "{ring:?}");

    stage.cuts.mend();
    measured(&stage, from, to, "2026-01-01T01:00:00Z");
    let back = stage.cluster.eventually("the link may be used again", PATIENCE, || {
        let one = get()?;
        let settled = one["status"]["lostLinks"].is_null() && condition(&one, "Ready").0 == "True";
        Ok(settled.then_some(()))
    });
    back.unwrap_or_else(|error| panic!("{error}: {:#}", get().unwrap()["status"]));
    // Another order of the same nodes is as fast: that is no reason to move back.
    assert_eq!(operator.figure("lime_operator_replans_total"), Some(1.0));
}

/// The agents of both have measured the way to the other, then.
fn measured(stage: &Stage, one: &str, other: &str, at: &str) {
    for (node, peer) in [(one, other), (other, one)] {
        let link = json!({ "peer": peer, "bandwidthBitsPerSecond": 1_000_000_000, "roundTripMicroseconds": 200, "measuredAt": at });
        let patch = json!({ "status": { "links": [link] } }).to_string();
        let arguments = ["patch", "limenodeprofile", node, "--subresource=status", "--type=merge", "-p", &patch];
        stage.cluster.run(&arguments).unwrap();
    }
}

fn nodes(deployment: &Value) -> Vec<String> {
    let shards = deployment["status"]["shards"].as_array().into_iter().flatten();
    shards.filter_map(|shard| shard["node"].as_str().map(str::to_owned)).collect()
}
