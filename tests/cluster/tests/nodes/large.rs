//! A model of 1.85 GB on nodes of 1 GiB, as on a second day: minutes of requests, minutes of rest, and others who want a node's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lime_agent::change::worth_writing;
use lime_api::{LimeNodeProfile, LimeNodeProfileStatus};
use lime_cluster_tests::{Audit, Kubectl, Write, repository};
use lime_tests::synthetic::{Shape, write_folder};
use serde_json::{Value, json};

use crate::deployed::{Condition, Deployed, NAMESPACE, PATIENCE, condition, restrict, settled, text};
use crate::hog::Hog;
use crate::http::ask;
use crate::machine::{available, node_memory, nodes};
use crate::release::{Release, SYSTEM, lend};
use crate::story::Story;
use crate::streams::Client;
use crate::volume::Models;

/// 924 M parameters: 1.85 GB in bf16.
const SHAPE: Shape = Shape { layers: 18, ..Shape::LLAMA_1B };
/// Nodes with more than this each would hold the model without a disk.
const MOST_NODE_MEMORY: u64 = 1100 << 20;
/// So long nobody writes anything before rest is counted.
const CALM: Duration = Duration::from_secs(12);
/// What the third node lends: a better choice than a node of whose memory a good part is taken, a worse one than a node as it is.
const THIRD: &str = "450Mi";
/// Mebibytes that the hog takes beside all that is free: with so much from disk a plan with the third node is faster by far.
const MORE: u64 = 400;

#[test]
#[ignore = "needs nodes and charts/lime: make test-nodes"]
fn a_second_day_of_a_model_that_fills_its_nodes() {
    let cluster = Kubectl::connect().unwrap();
    match node_memory() {
        Some(bytes) if bytes <= MOST_NODE_MEMORY => {}
        other => {
            println!(
                "skipped: nodes of at most 1 GiB are needed, for `cluster run --memory 1Gi`; here it is {other:?}"
            );
            return;
        }
    }
    let nodes = nodes(&cluster);
    let folder = model();
    let release = Release::install(&cluster, SYSTEM, &[]);
    lend(&cluster, &nodes, None);
    slow(&cluster, &nodes);
    let _namespace = cluster.namespace(NAMESPACE).unwrap();
    restrict(&cluster, NAMESPACE);
    let manifest = |name: &str| std::fs::read_to_string(repository().join("tests/cluster/nodes").join(name)).unwrap();
    let _models = Models::of(&cluster, folder.parent().unwrap());
    let began = Instant::now();
    cluster.run_with(&["apply", "-f", "-"], &manifest("large.yaml")).unwrap();
    let large = Deployed { cluster: &cluster, namespace: NAMESPACE, name: "large" };
    let plan = large.served(None);
    println!("1.85 GB are served {:.0} s after apply\n{}", began.elapsed().as_secs_f64(), told(&large));

    let answer = large.ask(&question());
    settled(&large);
    let story = Story::begin(&large);
    minutes_pass(&large, &story, &plan, text(&answer));
    somebody_takes_memory(&large, &story, &plan, text(&answer));
    println!("{}", told(&large));

    large.leaves_nothing();
    let own = json!({"spec": {"overrides": null, "memoryBudget": null}}).to_string();
    for node in &nodes {
        cluster.run(&["patch", "limenodeprofile", node, "--type=merge", "-p", &own]).unwrap();
    }
    release.uninstall();
}

/// The model's folder, which every node sees at the same path; written once.
fn model() -> PathBuf {
    let folder = repository().canonicalize().unwrap().join("target/models/llama-900m");
    let began = Instant::now();
    write_folder(&SHAPE, &folder).unwrap();
    println!("the model is in {} after {:.0} s", folder.display(), began.elapsed().as_secs_f64());
    folder
}

/// What plans count with: a small board's processor and disk. This machine's own figures, shared with whatever else it does, would make
/// another plan each time, and predictions that a busy machine misses.
fn slow(cluster: &Kubectl, nodes: &[String]) {
    let figures = json!({
        "memoryBandwidthBytesPerSecond": 2_000_000_000_i64, "compactBandwidthBytesPerSecond": 2_000_000_000_i64,
        "matrixOperationsPerSecond": 20_000_000_000_i64, "diskReadBytesPerSecond": 200_000_000_i64,
    });
    for (index, node) in nodes.iter().enumerate() {
        let budget = (index + 1 == nodes.len()).then_some(THIRD);
        let spec = json!({"spec": {"overrides": figures, "memoryBudget": budget}}).to_string();
        cluster.run(&["patch", "limenodeprofile", node, "--type=merge", "-p", &spec]).unwrap();
    }
}

/// Of the model with a vocabulary of t0, t1 and so on.
fn question() -> Value {
    json!({"model": "large", "prompt": "t5 t77 t9", "max_tokens": 24, "temperature": 0, "ignore_eos": true})
}

/// Requests for two thirds of the time, and rest: one plan, no false alarm, and in the end nothing written but heartbeats.
fn minutes_pass(large: &Deployed<'_>, story: &Story, plan: &str, answer: &Value) {
    let minutes: f64 = std::env::var("LIME_SECOND_DAY_MINUTES").map_or(3.0, |text| text.parse().unwrap());
    let part = |share: f64| Duration::from_secs_f64(minutes * 60.0 * share);
    let from = Instant::now();
    let client = Client::start(&large.endpoint(), &question(), answer);
    std::thread::sleep(part(2.0 / 3.0));
    let seen = client.stop();
    println!("{seen:?} in {:.0} s of requests", from.elapsed().as_secs_f64());

    // What requests did is shown once more, and that is all.
    let mut audit = Audit::from_now().unwrap();
    let quiet = large.cluster.eventually("nobody of ours writes any more", PATIENCE, || {
        std::thread::sleep(CALM);
        let quiet = audit.as_ref().is_none_or(|audit| written(audit).is_empty());
        audit = Audit::from_now()?;
        Ok(quiet.then_some(()))
    });
    quiet.unwrap();
    let before = profiles(large.cluster);
    std::thread::sleep(part(1.0 / 3.0));
    match audit {
        None => println!("skipped: writes at rest, of which this cluster keeps no list"),
        Some(audit) => {
            let after = profiles(large.cluster);
            let mut writes = written(&audit);
            // A machine that has become quiet is measured anew, and a figure that really moved is written.
            let moved = |node: &str| worth_writing(before.get(node), &after[node], 0).is_some();
            writes.retain(|(write, _)| !(write.what == "limenodeprofiles/status" && moved(&write.name)));
            println!("at rest {} s: {} writes of ours but heartbeats", part(1.0 / 3.0).as_secs(), writes.len());
            assert!(writes.is_empty(), "{writes:#?}");
        }
    }
    story.nothing_happened(from, plan);
    println!(
        "nothing happened in {:.0} s but {} changes of figures",
        from.elapsed().as_secs_f64(),
        story.changes(from)
    );
}

/// What the agents last wrote of each node.
fn profiles(cluster: &Kubectl) -> BTreeMap<String, LimeNodeProfileStatus> {
    let all = cluster.get(&["limenodeprofiles"]).unwrap();
    let all: Vec<LimeNodeProfile> = serde_json::from_value(all["items"].clone()).unwrap();
    all.into_iter().filter_map(|each| Some((each.metadata.name?, each.status?))).collect()
}

/// What LIME's own accounts wrote; their Leases are heartbeats.
fn written(audit: &Audit) -> Vec<(Write, usize)> {
    let ours = |write: &Write| write.by.starts_with("system:serviceaccount:lime-system:") && write.what != "leases";
    audit.writes().unwrap().into_iter().filter(|(write, _)| ours(write)).collect()
}

/// Somebody takes a good part of a node's memory: that is told, steps make room, and a plan without that node is taken up because it is
/// faster than what the steps cost. Then the memory is free again, and the better plan comes back. Every answer is whole.
fn somebody_takes_memory(large: &Deployed<'_>, story: &Story, plan: &str, answer: &Value) {
    let (node, steps) = with_steps(large, plan);
    let (before, request_before) = (predicted(large, plan), request(large, plan));
    let client = Client::start(&large.endpoint(), &question(), answer);

    let from = Instant::now();
    let wanted = (available(&node) >> 20) + MORE;
    let hog = Hog::start(large.cluster, &node, wanted);
    let is_told = |state: &Value| {
        let degraded = condition(state, "Degraded");
        (degraded.reason == "MemoryPressure" && degraded.message.contains(node.as_str())).then_some(degraded.message)
    };
    let message = large.eventually("that memory is short is told", PATIENCE, is_told);
    let pressed = |it: &Condition| it.reason == "MemoryPressure" && it.status == "True";
    let told_after = after(story.first(from, "Degraded", pressed), from);
    println!("told {told_after} after {wanted} MiB of {node} were wanted: {message}");
    let made =
        large.cluster.eventually("steps make room", PATIENCE, || Ok(Some(in_force(large)?).filter(|it| *it > 0)));
    let made = made.unwrap_or_else(|error| panic!("{error}\n{}", large.told()));
    println!("{made} steps in force {:.0} s after", from.elapsed().as_secs_f64());
    let other = large.served(Some(plan));
    let now = predicted(large, &other);
    let slowed =
        steps.iter().find(|(frees, _)| *frees >= MORE << 20).or(steps.last()).map_or(i64::MAX, |(_, time)| *time);
    let seconds = from.elapsed().as_secs_f64();
    println!("{other} serves {seconds:.0} s after: {now} ms predicted; {before} ms before, {slowed} ms by steps");
    assert!(now < slowed, "a plan of {now} ms is no better than {slowed} ms\n{}", large.told());

    let from = Instant::now();
    drop(hog);
    let again = large.served(Some(&other));
    let (back, seconds) = (predicted(large, &again), from.elapsed().as_secs_f64());
    println!("{again} serves {seconds:.0} s after the memory was free again: {back} ms");
    let well = |it: &Value| (condition(it, "Degraded").reason != "MemoryPressure").then_some(());
    large.eventually("nothing is amiss", PATIENCE, well);
    println!("answers under all of this: {:?}", client.stop());
    let plans = story.plans();
    println!("plans in force: {plans:?}");
    // By whole requests, as plans are compared. Those within a hundredth are as good, and a figure of a node that moves by less
    // than a tenth is not written anew.
    let (request_before, request_back) = (request_before as f64, request(large, &again) as f64);
    assert!(
        request_back <= request_before * 1.01 * 1.10,
        "{request_back} us a request, {request_before} us before\n{}",
        large.told()
    );
    assert_eq!(plans, [plan, &other, &again], "no plan between them");
    assert_eq!(on(large, &again), on(large, plan), "the nodes of the first plan are the best again\n{}", large.told());
}

fn after(at: Option<Instant>, from: Instant) -> String {
    at.map_or_else(|| "never".to_owned(), |at| format!("{:.0} s", at.saturating_duration_since(from).as_secs_f64()))
}

/// A node of the plan whose worker has steps, and what the first so many of them free, with the milliseconds of a token then.
fn with_steps(large: &Deployed<'_>, plan: &str) -> (String, Vec<(u64, i64)>) {
    let spec = large.cluster.get(&["-n", NAMESPACE, "limeplan", plan]).unwrap()["spec"].take();
    let document: Value = serde_json::from_str(spec["document"].as_str().unwrap()).unwrap();
    let devices = document["devices"].as_array().unwrap().iter();
    let steps = |device: &Value| device["steps"].as_array().cloned().unwrap_or_default();
    let device = devices.max_by_key(|device| steps(device).len()).unwrap();
    let mut freed = 0;
    let ladder = steps(device).into_iter().map(|step| {
        freed += step["frees"].as_u64().unwrap();
        (freed, step["timePerToken"].as_i64().unwrap() / 1_000_000)
    });
    let ladder: Vec<_> = ladder.collect();
    assert!(!ladder.is_empty(), "no worker of this plan can give way: {document}");
    (device["name"].as_str().unwrap().to_owned(), ladder)
}

/// Milliseconds of a token by a plan.
fn predicted(large: &Deployed<'_>, plan: &str) -> i64 {
    let plan = large.cluster.get(&["-n", NAMESPACE, "limeplan", plan]).unwrap();
    plan["spec"]["prediction"]["timePerTokenMilliseconds"].as_i64().unwrap()
}

/// Microseconds of a typical request by a plan: what plans are compared by.
fn request(large: &Deployed<'_>, plan: &str) -> i64 {
    let plan = large.cluster.get(&["-n", NAMESPACE, "limeplan", plan]).unwrap();
    plan["spec"]["prediction"]["requestMicroseconds"].as_i64().unwrap()
}

/// The nodes of a plan.
fn on(large: &Deployed<'_>, plan: &str) -> BTreeSet<String> {
    let plan = large.cluster.get(&["-n", NAMESPACE, "limeplan", plan]).unwrap();
    let parts = plan["spec"]["assignments"].as_array().unwrap().iter();
    parts.map(|part| part["node"].as_str().unwrap().to_owned()).collect()
}

/// Blocks that stream because room was needed, by the gateway's word.
fn in_force(large: &Deployed<'_>) -> anyhow::Result<u64> {
    let (_, text) = ask(&large.endpoint(), "/metrics", None)?;
    let lines = text.lines().filter(|line| line.starts_with("lime_worker_steps_in_force{"));
    Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}

fn told(large: &Deployed<'_>) -> String {
    large.run(&["get", "limedeployment,limeplan,pods", "-o", "wide"]).unwrap()
}
