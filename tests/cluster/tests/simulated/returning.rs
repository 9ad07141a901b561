//! A node that is switched off and comes back, and one of which the agent alone falls silent.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{PATIENCE, Stage, condition, crashes::settled, deployment, fleet, operator::Operator};

/// All four nodes are needed to keep the model in memory: with three it is read from disk.
const MEBIBYTES: i64 = 34;
const PLACEMENT: &str = ", placement: {replan: {stabilizationSeconds: 5}}, failure: {nodeLossGraceSeconds: 20}";

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn what_falls_silent_is_not_counted_on_and_is_used_again_when_it_is_back() {
    let stage = Stage::new(4, MEBIBYTES);
    let namespace = stage.cluster.namespace("lime-test-returning").unwrap();
    let scope = ["-n", namespace.name()];
    let operator = Operator::start();
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("m", PLACEMENT)).unwrap();
    settled(&stage, &scope, 0, PATIENCE);
    let get = |name: &str| stage.cluster.get(&[&scope[..], &["limed", name]].concat());
    let first = get("m").unwrap()["status"]["currentPlan"].as_str().unwrap().to_owned();
    assert_eq!(nodes(&get("m").unwrap()).len(), 4);
    let (off, quiet) = ("simulated-001", "simulated-002");
    let profile = |node: &str| stage.cluster.get(&["limenodeprofile", node]);
    stage
        .cluster
        .eventually("what is lent to whom", PATIENCE, || lent(&profile(off)?, "lime-test-returning/m"))
        .unwrap();

    let began = Instant::now();
    stage.silence.of_node(off);
    stage.silence.of_agent(quiet);
    let three = stage.cluster.eventually("it is planned around", PATIENCE, || {
        let one = get("m")?;
        let without = nodes(&one).len() == 3 && !nodes(&one).contains(&off.to_owned());
        Ok((without && condition(&one, "Ready").0 == "True").then_some(one))
    });
    let three = three.unwrap_or_else(|error| panic!("{error}: {:#}", get("m").unwrap()["status"]));
    println!("a node switched off: planned around and Ready again after {:.1} s", began.elapsed().as_secs_f64());
    // The plan goes on with a node whose agent alone is silent.
    assert!(nodes(&three).contains(&quiet.to_owned()));
    for node in [off, quiet] {
        stage
            .cluster
            .eventually("its profile is not fresh", PATIENCE, || {
                let profile = profile(node)?;
                let (truth, reason, message) = condition(&profile, "Fresh");
                Ok(((truth, reason) == ("False", "Silent") && message.contains("no heartbeat since")).then_some(()))
            })
            .unwrap();
    }
    println!("both profiles say Fresh=False after {:.1} s", began.elapsed().as_secs_f64());
    stage.cluster.eventually("nothing is lent there any more", PATIENCE, || not_lent(&profile(off)?)).unwrap();
    let columns = stage.cluster.run(&["get", "limenodeprofiles"]).unwrap();
    println!("{columns}");

    // Who plans now leaves both out, and says so.
    stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment("late", "")).unwrap();
    let mut said = String::new();
    let told = stage.cluster.eventually("the silent are left out by name", PATIENCE, || {
        let one = get("late")?;
        said = condition(&one, "Profiled").2.to_owned();
        Ok([off, quiet].iter().all(|node| said.contains(node)).then_some(()))
    });
    told.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(said.contains("simulated-002 (ProfileStale)") || said.contains("simulated-002: its agent"), "{said}");
    stage.cluster.run(&[&scope[..], &["delete", "limed", "late", "--timeout=60s"]].concat()).unwrap();
    assert_eq!(condition(&get("m").unwrap(), "Ready").0, "True", "a silent agent alone stops nothing");

    let back = Instant::now();
    for node in [off, quiet] {
        stage.silence.ends(node);
    }
    stage.runtime.block_on(fleet::wakes(&stage.client, off)).unwrap();
    let four = stage.cluster.eventually("the node is used again", PATIENCE, || {
        let one = get("m")?;
        let settled = nodes(&one).len() == 4 && condition(&one, "Ready").0 == "True";
        Ok((settled && condition(&one, "Replanning").0 == "False").then_some(one))
    });
    let four = four.unwrap_or_else(|error| panic!("{error}: {:#}", get("m").unwrap()["status"]));
    println!("back: used again and Ready {:.1} s later", back.elapsed().as_secs_f64());
    assert_eq!(four["status"]["currentPlan"], first.as_str(), "the same nodes make the same plan");
    for node in [off, quiet] {
        stage
            .cluster
            .eventually("its profile is fresh", PATIENCE, || {
                Ok((condition(&profile(node)?, "Fresh").0 == "True").then_some(()))
            })
            .unwrap();
    }
    std::thread::sleep(Duration::from_secs(10));
    let after = get("m").unwrap();
    assert_eq!(after["status"]["currentPlan"], first.as_str(), "it does not go to and fro");
    assert_eq!(after["status"]["recentReplans"].as_array().map(Vec::len), Some(2));
    assert_eq!(operator.figure("lime_operator_replans_total"), Some(2.0));
}

fn nodes(deployment: &Value) -> Vec<String> {
    let shards = deployment["status"]["shards"].as_array().into_iter().flatten();
    shards.filter_map(|shard| shard["node"].as_str().map(str::to_owned)).collect()
}

fn lent(profile: &Value, to: &str) -> anyhow::Result<Option<()>> {
    Ok(profile["status"]["lent"].as_str().is_some_and(|lent| lent.ends_with(&format!("Mi: {to}"))).then_some(()))
}

fn not_lent(profile: &Value) -> anyhow::Result<Option<()>> {
    Ok(profile["status"]["lent"].is_null().then_some(()))
}
