//! Fifty deployments on two hundred nodes.

use std::time::{Duration, Instant};

use crate::{PATIENCE, Stage, condition, deployment, operator::Operator};

const DEPLOYMENTS: usize = 50;
const NODES: usize = 200;
/// So long nothing is written before the steady state is watched.
const CALM: Duration = Duration::from_secs(10);
/// Most memory of the operator, in KiB.
const MEMORY_KIB: u64 = 100 << 10;

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn fifty_deployments_settle_on_two_hundred_nodes_and_then_nothing_is_written() {
    let stage = Stage::new(NODES, 64);
    let namespace = stage.cluster.namespace("lime-test-scale").unwrap();
    let scope = ["-n", namespace.name()];
    let operator = Operator::start();
    let all: Vec<String> = (0..DEPLOYMENTS).map(|index| deployment(&format!("m{index}"), "")).collect();
    let began = Instant::now();
    stage.cluster.run_with(&[&scope[..], &["apply", "-f", "-"]].concat(), &all.join("\n---\n")).unwrap();
    let settled = stage.cluster.eventually("every deployment is Ready", PATIENCE * 2, || {
        let found = stage.cluster.get(&[&scope[..], &["limedeployments"]].concat())?;
        let ready = found["items"].as_array().unwrap().iter().filter(|one| condition(one, "Ready").0 == "True").count();
        Ok((ready == DEPLOYMENTS).then(|| began.elapsed()))
    });
    let settled = settled.unwrap_or_else(|error| {
        panic!("{error}\n{}", stage.cluster.run(&[&scope[..], &["get", "limed", "-o", "wide"]].concat()).unwrap())
    });
    // The aim is 30 s on a quiet machine. A figure and not a rule: the suite runs on busy ones.
    println!("{DEPLOYMENTS} deployments on {NODES} nodes settled in {:.1} s", settled.as_secs_f64());

    // A gateway's status changes its Deployment once more, and that is looked after at the next visit: steady is what comes then.
    let mut before = operator.writes();
    stage
        .cluster
        .eventually("the last of it is written", PATIENCE * 2, || {
            std::thread::sleep(CALM);
            let (last, now) = (std::mem::replace(&mut before, operator.writes()), operator.writes());
            Ok((last == now).then_some(()))
        })
        .unwrap();
    let seconds = std::env::var("LIME_STEADY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(35);
    let by_kind = || {
        let metrics = operator.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with("lime_operator_api_writes_total{"));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let (before, kinds) = (operator.writes(), by_kind());
    std::thread::sleep(Duration::from_secs(seconds));
    let written = operator.writes() - before;
    let (most, now) = operator.memory_kib();
    println!("then {written} writes in {seconds} s; the operator holds {} MiB, at most {} MiB", now >> 10, most >> 10);
    assert_eq!(written, 0, "a steady state is written: before\n{kinds}\nand after\n{}", by_kind());
    assert!(most < MEMORY_KIB, "the operator took {most} KiB");
    stage.cluster.run(&[&scope[..], &["delete", "limedeployments", "--all", "--timeout=60s"]].concat()).unwrap();
}
