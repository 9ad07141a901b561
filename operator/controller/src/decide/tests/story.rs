//! What `kubectl get`, `describe` and the events say at each moment of a deployment's life, to be read as a person would.

use super::*;
use crate::{links::Ends, planning, snapshot::RingCause};

/// Columns, conditions that are not as they should be at rest, and events, a line each.
fn seen(decision: &Decision) -> String {
    let status = &decision.status;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    let performance = status.performance.clone().unwrap_or_default();
    let pace = performance.measured.and_then(|it| it.time_per_token);
    let mut lines = vec![format!(
        "READY={} SHARDS={} TPOT(MS)={} REASON={}",
        ready.status,
        status.shards_ready.as_deref().unwrap_or("-"),
        pace.as_deref().unwrap_or("-"),
        ready.reason
    )];
    let at_rest =
        |type_: &str, truth: &str| truth == if matches!(type_, "Degraded" | "Replanning") { "False" } else { "True" };
    for it in status.conditions.iter().filter(|it| it.reason == "ReplanSuppressed" || !at_rest(&it.type_, &it.status)) {
        lines.push(format!("{}={} {}: {}", it.type_, it.status, it.reason, it.message));
    }
    for note in &decision.notes {
        lines.push(format!("{} {}: {}", if note.warning { "Warning" } else { "Normal" }, note.reason, note.message));
    }
    let plans = status.current_plan.iter().chain(&status.proposed_plan);
    plans.fold(lines.join("\n"), |text, plan| text.replace(plan.as_str(), "PLAN"))
}

/// Compares with what a person should read; a line is shown whole where they differ.
fn reads(moment: &str, decision: &Decision, expected: &[&str]) {
    let found = seen(decision);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{moment}:\n{found}");
}

fn with_status(snapshot: &Snapshot, spec: serde_json::Value) -> Snapshot {
    let mut deployment = testing::deployment(spec);
    deployment.metadata.generation = Some(2);
    deployment.status = snapshot.deployment.status.clone();
    Snapshot { deployment: Arc::new(deployment), ..snapshot.clone() }
}

/// The gateway says that its ring loads.
fn loading(snapshot: &Snapshot, percent: &[(&str, i32)]) -> Snapshot {
    let plan = snapshot.deployment.status.as_ref().and_then(|status| status.current_plan.clone()).unwrap();
    let loaded = percent.iter().map(|(node, percent)| ((*node).to_owned(), *percent)).collect();
    let ring = RingReport { plan, phase: "loading".into(), loaded, ..RingReport::default() };
    Snapshot { ring: Some(ring), ..snapshot.clone() }
}

/// The first worker's node lends little now: others have taken its memory.
fn pressed(snapshot: &Snapshot, node: &str) -> Snapshot {
    let memory = |name: &str| if name == node { 10 } else { 60 };
    let profile = |name: &str| Arc::new(serde_json::from_value(testing::profile(name, memory(name))).unwrap());
    Snapshot { profiles: ["a", "b", "c"].iter().map(|name| profile(name)).collect(), ..snapshot.clone() }
}

fn measured(snapshot: &Snapshot, microseconds: i64) -> Snapshot {
    let mut measured = snapshot.clone();
    measured.ring.as_mut().unwrap().time_per_token_microseconds = Some(microseconds);
    measured
}

#[test]
fn the_beginning() {
    let settings = testing::settings();
    let mut first = testing::snapshot(json!({ "model": { "source": "hf://org/m" } }));
    let card = first.card.take();
    reads(
        "inspection",
        &decide(&first, &settings),
        &[
            "READY=False SHARDS=- TPOT(MS)=- REASON=Inspecting",
            "Accepted=Unknown Inspecting: the model's files are being read",
            "Planned=Unknown Waiting: waits until Accepted is True",
            "Approved=Unknown Waiting: waits until Accepted is True",
            "WeightsReady=Unknown Waiting: waits until Accepted is True",
            "ShardsReady=Unknown Waiting: waits until Accepted is True",
            "Ready=False Inspecting: the model's files are being read",
        ],
    );
    first.card = card;
    let planned = decide(&first, &settings);
    reads(
        "planned",
        &planned,
        &[
            "READY=False SHARDS=0/3 TPOT(MS)=- REASON=ShardPending",
            "ShardsReady=False ShardPending: a: the pod PLAN-0 is being made (and 2 more)",
            "Ready=False ShardPending: a: the pod PLAN-0 is being made (and 2 more)",
            "Normal PlanComputed: PLAN: 3 nodes, 14 ms per token predicted (NoPlan)",
        ],
    );
    let started = carried_out(&first, &planned);
    let fetching = loading(&started, &[("a", 40), ("b", 100), ("c", 7)]);
    let download = decide(&fetching, &settings);
    reads(
        "first download",
        &download,
        &[
            "READY=False SHARDS=3/3 TPOT(MS)=- REASON=Downloading",
            "WeightsReady=False Downloading: weights are being fetched and loaded: a 40 %, c 7 %",
            "Ready=False Downloading: weights are being fetched and loaded: a 40 %, c 7 %",
            "Normal ShardStarted: a: pod PLAN-0 has started, for the layers 0-3a",
            "Normal ShardStarted: b: pod PLAN-1 has started, for the layers 3m-6",
            "Normal ShardStarted: c: pod PLAN-2 has started, for the layers 7-9",
            "Normal WeightsDownloading: weights are being fetched and loaded: a 40 %, c 7 %",
        ],
    );
    let served = carried_out(&fetching, &download);
    reads(
        "ready",
        &decide(&served, &settings),
        &[
            "READY=True SHARDS=3/3 TPOT(MS)=- REASON=Ready",
            "Normal WeightsDownloaded: every node has its part of the weights",
            "Normal Ready: requests are answered",
        ],
    );
}

#[test]
fn from_a_folder_of_the_nodes() {
    let settings = testing::settings();
    let first = testing::snapshot(json!({}));
    let started = carried_out(&first, &decide(&first, &settings));
    reads(
        "load",
        &decide(&loading(&started, &[("a", 40), ("b", 100), ("c", 7)]), &settings),
        &[
            "READY=False SHARDS=3/3 TPOT(MS)=- REASON=Loading",
            "WeightsReady=False Loading: weights are being loaded: a 40 %, c 7 %",
            "Ready=False Loading: weights are being loaded: a 40 %, c 7 %",
            "Normal ShardStarted: a: pod PLAN-0 has started, for the layers 0-3a",
            "Normal ShardStarted: b: pod PLAN-1 has started, for the layers 3m-6",
            "Normal ShardStarted: c: pod PLAN-2 has started, for the layers 7-9",
        ],
    );
}

#[test]
fn serving_and_what_disturbs_it() {
    let settings = testing::settings();
    let (snapshot, _) = settled(json!({}));
    let fast = measured(&snapshot, 3_412);
    let serving = decide(&fast, &settings);
    reads("a token in milliseconds", &serving, &["READY=True SHARDS=3/3 TPOT(MS)=3.5 REASON=Ready"]);
    let after = carried_out(&fast, &serving);
    reads(
        "slow",
        &decide(&measured(&after, 412_000), &settings),
        &[
            "READY=True SHARDS=3/3 TPOT(MS)=412 REASON=Ready",
            "Degraded=True SlowerThanPredicted: 412.0 ms per token measured, 13.9 ms predicted",
            "Warning SlowerThanPredicted: 412.0 ms per token measured, 13.9 ms predicted",
        ],
    );

    let node = serving.status.shards[0].node.clone();
    let short = pressed(&snapshot, &node);
    let mut lasting = carried_out(&short, &decide(&short, &settings));
    lasting.now = Timestamp::from_second(lasting.now.as_second() + 5).unwrap();
    reads(
        "pressure",
        &decide(&lasting, &settings),
        &[
            "READY=True SHARDS=3/3 TPOT(MS)=- REASON=Ready",
            "Degraded=True MemoryPressure: a: the plan needs 49.5 MiB, 10.0 MiB can be had",
            "Replanning=Unknown MemoryPressure: a: the plan needs 49.5 MiB, 10.0 MiB can be had; a new plan is made if this lasts until 2027-01-15T08:02:00Z",
            "Warning MemoryPressure: a: the plan needs 49.5 MiB, 10.0 MiB can be had",
        ],
    );

    let document = planning::document(&snapshot.plans[0].spec).unwrap();
    let ends = Ends::of(&document.devices[0].name, &document.devices[1].name);
    let mut cut = snapshot.clone();
    let plan = serving.status.current_plan.clone().unwrap();
    let trouble = Some(format!(
        "the link from device {:?} to device {:?} is lost: both answer here",
        ends.both()[0],
        ends.both()[1]
    ));
    cut.ring = Some(RingReport {
        plan,
        phase: "recovering".into(),
        cause: Some(RingCause::Link(ends)),
        trouble,
        ..RingReport::default()
    });
    reads(
        "cut",
        &decide(&cut, &settings),
        &[
            "READY=False SHARDS=3/3 TPOT(MS)=- REASON=LinkLost",
            r#"Ready=False LinkLost: the link from device "a" to device "b" is lost: both answer here"#,
            "Degraded=True LinkLost: the link between a and b is lost: both nodes are there, and one does not reach the other",
            "Replanning=Unknown LinkLost: the link between a and b is lost: both nodes are there, and one does not reach the other; a new plan is made if this lasts until 2027-01-15T08:00:40Z",
            "Warning LinkLost: the link between a and b is lost: both nodes are there, and one does not reach the other",
            r#"Warning NotReady: the link from device "a" to device "b" is lost: both answer here"#,
        ],
    );

    let mut lost = snapshot.clone();
    lost.nodes.retain(|other| other.name_any() != node);
    let replanned = decide(&lost, &settings);
    reads(
        "replan",
        &replanned,
        &[
            "READY=False SHARDS=0/2 TPOT(MS)=- REASON=ShardPending",
            "ShardsReady=False ShardPending: b: the pod PLAN-0 is being made (and 1 more)",
            "Ready=False ShardPending: b: the pod PLAN-0 is being made (and 1 more)",
            "Replanning=True NodeLost: PLAN is being put in force: a: the node is gone from the cluster",
            "Warning NodeLost: a is lost, and its part of the plan with it",
            "Normal PlanComputed: PLAN: 2 nodes, 18 ms per token predicted (NodeLost)",
            "Normal PlanSuperseded: m-0673cc37 is replaced by PLAN (NodeLost)",
            "Normal ReplanStarted: PLAN is being put in force (NodeLost)",
            "Warning NotReady: b: the pod PLAN-0 is being made (and 1 more)",
        ],
    );
    reads(
        "replanned",
        &decide(&carried_out(&lost, &replanned), &settings),
        &[
            "READY=True SHARDS=2/2 TPOT(MS)=- REASON=Ready",
            "Normal ReplanCompleted: PLAN is in force",
            "Normal ShardStarted: b: pod PLAN-0 has started, for the layers 0-2a,5-7a",
            "Normal ShardStarted: c: pod PLAN-1 has started, for the layers 2m-4,7m-9",
            "Normal Ready: requests are answered",
        ],
    );

    let mut cordoned = snapshot.clone();
    let mut whole = testing::node(&node);
    whole["spec"] = json!({ "unschedulable": true });
    let place = cordoned.nodes.iter().position(|other| other.name_any() == node).unwrap();
    cordoned.nodes[place] = Arc::new(serde_json::from_value(whole).unwrap());
    reads(
        "drain",
        &decide(&cordoned, &settings),
        &[
            "READY=True SHARDS=3/3 TPOT(MS)=- REASON=Ready",
            "Replanning=Unknown NodeDraining: a: the node is cordoned; a new plan is made if this lasts until 2027-01-15T08:02:00Z",
            "Normal NodeDraining: a: the node is cordoned; a new plan is made if this lasts until 2027-01-15T08:02:00Z",
        ],
    );

    let upgraded = crate::settings::Settings { image: "lime:next".into(), ..testing::settings() };
    let upgrade = decide(&snapshot, &upgraded);
    reads(
        "upgrade",
        &upgrade,
        &[
            "READY=True SHARDS=3/3 TPOT(MS)=- REASON=Ready",
            "Normal WorkersUpdated: 3 of 3 workers are made anew, as spec and operator ask now: image lime:next",
        ],
    );
    let mut between = snapshot.clone();
    between.pods.clear();
    between.ring = None;
    reads(
        "between two images",
        &decide(&between, &upgraded),
        &[
            "READY=False SHARDS=0/3 TPOT(MS)=- REASON=ShardPending",
            "ShardsReady=False ShardPending: a: the pod PLAN-0 is being made (and 2 more)",
            "Ready=False ShardPending: a: the pod PLAN-0 is being made (and 2 more)",
            "Warning NotReady: a: the pod PLAN-0 is being made (and 2 more)",
        ],
    );
}

#[test]
fn what_people_decide() {
    let settings = testing::settings();
    let waiting = testing::snapshot(json!({ "placement": { "approval": "Manual" } }));
    reads(
        "approval",
        &decide(&waiting, &settings),
        &[
            "READY=False SHARDS=- TPOT(MS)=- REASON=AwaitingApproval",
            r#"Approved=False AwaitingApproval: PLAN awaits approval; to approve: kubectl -n llm patch limedeployment m --type merge -p '{"spec":{"placement":{"approvedPlan":"PLAN"}}}'"#,
            "WeightsReady=Unknown Waiting: waits until Approved is True",
            "ShardsReady=Unknown Waiting: waits until Approved is True",
            r#"Ready=False AwaitingApproval: PLAN awaits approval; to approve: kubectl -n llm patch limedeployment m --type merge -p '{"spec":{"placement":{"approvedPlan":"PLAN"}}}'"#,
            "Normal PlanComputed: PLAN: 3 nodes, 14 ms per token predicted (NoPlan)",
            r#"Normal PlanAwaitingApproval: PLAN awaits approval; to approve: kubectl -n llm patch limedeployment m --type merge -p '{"spec":{"placement":{"approvedPlan":"PLAN"}}}'"#,
        ],
    );
    let impossible = testing::snapshot(json!({ "nodes": { "minCount": 9 } }));
    reads(
        "infeasible",
        &decide(&impossible, &settings),
        &[
            "READY=False SHARDS=- TPOT(MS)=- REASON=TooFewNodes",
            "Planned=False TooFewNodes: spec.nodes.minCount asks for 9 nodes, 3 of 3 matching nodes can take part",
            "Approved=Unknown Waiting: waits until Planned is True",
            "WeightsReady=Unknown Waiting: waits until Planned is True",
            "ShardsReady=Unknown Waiting: waits until Planned is True",
            "Ready=False TooFewNodes: spec.nodes.minCount asks for 9 nodes, 3 of 3 matching nodes can take part",
            "Warning PlanInfeasible: spec.nodes.minCount asks for 9 nodes, 3 of 3 matching nodes can take part",
        ],
    );
    let (snapshot, _) = settled(json!({}));
    let asked = with_status(&snapshot, json!({ "nodes": { "minCount": 9 } }));
    reads(
        "an infeasible change",
        &decide(&asked, &settings),
        &[
            "READY=True SHARDS=3/3 TPOT(MS)=- REASON=ServesEarlierSpec",
            "Planned=False TooFewNodes: spec.nodes.minCount asks for 9 nodes, 3 of 3 matching nodes can take part",
            "Warning PlanInfeasible: spec.nodes.minCount asks for 9 nodes, 3 of 3 matching nodes can take part",
        ],
    );
    let asleep = with_status(&snapshot, json!({ "replicas": 0 }));
    let mut asleep = Snapshot { ring: None, ..asleep };
    asleep.pods.clear();
    reads(
        "asleep",
        &decide(&asleep, &settings),
        &[
            "READY=False SHARDS=0/3 TPOT(MS)=- REASON=Suspended",
            "ShardsReady=False Suspended: spec.replicas is 0: weights and plan are kept, memory is free",
            "Ready=False Suspended: spec.replicas is 0: weights and plan are kept, memory is free",
            "Normal Suspended: spec.replicas is 0: weights and plan are kept, memory is free",
        ],
    );
}
