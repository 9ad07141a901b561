use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    build::Kind,
    names,
    snapshot::{RingReport, SecretKey},
    testing::{self, NOW},
};

mod cut;
mod flapping;
mod moves;
mod pressure;
mod served;
mod story;
mod upgrade;

fn condition(decision: &Decision, type_: &str) -> (String, String) {
    let found = decision.status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn is(decision: &Decision, type_: &str, status: &str, reason: &str) {
    assert_eq!(condition(decision, type_), (status.into(), reason.into()), "{:?}", decision.status.conditions);
}

/// What the cluster looks like once `decision` has been carried out.
pub(super) fn carried_out(snapshot: &Snapshot, decision: &Decision) -> Snapshot {
    let mut after = snapshot.clone();
    let mut deployment = (*snapshot.deployment).clone();
    deployment.status = Some(decision.status.clone());
    after.deployment = Arc::new(deployment);
    after.plans.extend(decision.new_plan.clone().map(Arc::new));
    after.plans.retain(|plan| !decision.old_plans.contains(&plan.name_any()));
    for (name, status) in &decision.plan_states {
        for plan in after.plans.iter_mut().filter(|plan| plan.name_any() == *name) {
            let mut changed = (**plan).clone();
            changed.status = Some(status.clone());
            *plan = Arc::new(changed);
        }
    }
    after.since = decision.since.clone();
    after.tried = decision.tried.clone();
    after.pods = decision
        .objects
        .iter()
        .filter(|object| object.kind == Kind::Pod)
        .map(|object| {
            let mut pod = object.body.clone();
            pod["status"] = json!({ "phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
                { "name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": 0 },
            ]});
            Arc::new(serde_json::from_value(pod).unwrap())
        })
        .collect();
    let plan = decision.status.current_plan.clone();
    after.ring = plan.map(|plan| RingReport { plan, ready: true, phase: "ready".into(), ..RingReport::default() });
    after
}

pub(super) fn settled(spec: serde_json::Value) -> (Snapshot, Decision) {
    settled_with(spec, &testing::settings())
}

fn settled_with(spec: serde_json::Value, settings: &crate::settings::Settings) -> (Snapshot, Decision) {
    let first = testing::snapshot(spec);
    let second = carried_out(&first, &decide(&first, settings));
    let decision = decide(&second, settings);
    let third = carried_out(&second, &decision);
    let decision = decide(&third, settings);
    (third, decision)
}

#[test]
fn from_nothing_to_ready_and_then_nothing_moves() {
    let settings = testing::settings();
    let mut snapshot = testing::snapshot(json!({}));
    snapshot.card = None;
    let unknown = decide(&snapshot, &settings);
    is(&unknown, "Accepted", "Unknown", "Inspecting");
    assert!(unknown.objects.iter().any(|object| object.kind == Kind::Job));
    assert_eq!(unknown.status.conditions.len(), ConditionType::ALL.len());

    let first = testing::snapshot(json!({}));
    let planned = decide(&first, &settings);
    is(&planned, "Planned", "True", "Planned");
    is(&planned, "Ready", "False", "ShardPending");
    assert!(planned.new_plan.is_some());
    assert_eq!(planned.taken.len(), planned.status.shards.len());
    assert_eq!(decide(&first, &settings).status, planned.status, "pure");

    let (snapshot, serving) = settled(json!({}));
    is(&serving, "Ready", "True", "Ready");
    is(&serving, "Replanning", "False", "NoChange");
    assert_eq!(snapshot.deployment.status.as_ref(), Some(&serving.status), "a steady state is not written again");
    assert!(serving.new_plan.is_none());
    assert_eq!(serving.notes, []);
}

/// Fifty deployments on the same nodes would else write fifty statuses for each that starts.
#[test]
fn what_others_take_of_spare_nodes_is_not_written_while_a_plan_serves() {
    let spare = |lent: bool| {
        let mut snapshot = testing::snapshot(json!({}));
        snapshot.nodes.push(Arc::new(serde_json::from_value(testing::node("z")).unwrap()));
        snapshot.profiles.push(Arc::new(serde_json::from_value(testing::profile("z", 1)).unwrap()));
        snapshot.heartbeats.insert("z".into(), snapshot.now);
        if lent {
            snapshot.lent.insert("z".into(), lime_plan::Bytes::gib(1));
        }
        snapshot
    };
    let settings = testing::settings();
    let told = |snapshot: &Snapshot| condition_message(&decide(snapshot, &settings), "Profiled");
    assert!(told(&spare(true)).contains("3 of 4 matching nodes can take part; left out: z (NoMemoryLeft)"));
    let free = spare(false);
    let mut serving = carried_out(&free, &decide(&free, &settings));
    let before = told(&serving);
    assert_eq!(before, "4 of 4 matching nodes are profiled");
    serving.lent.insert("z".into(), lime_plan::Bytes::gib(1));
    assert_eq!(told(&serving), before);
}

fn condition_message(decision: &Decision, type_: &str) -> String {
    let found = decision.status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map(|condition| condition.message.clone()).unwrap_or_default()
}

#[test]
fn faults_of_the_wish_are_told_and_nothing_is_touched() {
    let spec =
        json!({ "model": { "source": "file:///m", "revision": "x" }, "nodes": { "minCount": 3, "maxCount": 2 } });
    let decision = decide(&testing::snapshot(spec), &testing::settings());
    is(&decision, "Accepted", "False", "InvalidSpec");
    assert!(!decision.prune && decision.objects.is_empty());
    let message = &decision.status.conditions[0].message;
    assert!(message.contains("revision") && message.contains("maxCount"), "{message}");
}

#[test]
fn a_missing_token_and_refused_models_have_their_reasons() {
    let mut snapshot =
        testing::snapshot(json!({ "model": { "source": "hf://o/n", "tokenSecretRef": { "name": "t", "key": "k" } } }));
    snapshot.card = None;
    snapshot.token = SecretKey::Missing;
    is(&decide(&snapshot, &testing::settings()), "Accepted", "False", "TokenMissing");

    let wish = Wish::check(&snapshot.deployment).unwrap();
    snapshot.token = SecretKey::Present;
    for (message, expected) in [
        (r#"{"refused":{"reason":"ModelGated","message":"ask for access"}}"#, "ModelGated"),
        (r#"{"refused":{"reason":"<script>","message":"x"}}"#, "InspectionFailed"),
        ("garbage", "InspectionFailed"),
    ] {
        let job = names::inspection(&wish.name, &wish.source_digest());
        let pod = json!({
            "metadata": { "name": "x", "labels": { "job-name": job } },
            "status": { "containerStatuses": [{ "name": "inspect", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "terminated": { "exitCode": 1, "message": message } } }] },
        });
        snapshot.pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
        is(&decide(&snapshot, &testing::settings()), "Accepted", "False", expected);
    }
}

#[test]
fn an_impossible_wish_says_what_would_fit_and_becomes_possible_by_itself() {
    let settings = testing::settings();
    let mut snapshot = testing::snapshot(json!({ "offload": { "policy": "Never" } }));
    let (third_node, third_profile) = (snapshot.nodes.pop().unwrap(), snapshot.profiles.pop().unwrap());
    let decision = decide(&snapshot, &settings);
    is(&decision, "Planned", "False", "Infeasible");
    is(&decision, "Ready", "False", "Infeasible");
    assert!(decision.new_plan.as_ref().is_some_and(|plan| !plan.spec.feasible));
    let mut again = carried_out(&snapshot, &decision);
    let second = decide(&again, &settings);
    assert!(second.new_plan.is_none(), "the answer is written down once");
    is(&second, "Planned", "False", "Infeasible");
    again.nodes.push(third_node);
    again.profiles.push(third_profile);
    is(&decide(&again, &settings), "Planned", "True", "Planned");
}

#[test]
fn nothing_runs_before_approval_and_stale_approvals_are_refused() {
    let settings = testing::settings();
    let manual = |approved: Option<&str>| json!({ "placement": { "approval": "Manual", "approvedPlan": approved } });
    let first = testing::snapshot(manual(None));
    let decision = decide(&first, &settings);
    is(&decision, "Approved", "False", "AwaitingApproval");
    assert!(decision.objects.iter().all(|object| object.kind != Kind::Pod));
    let proposed = decision.status.proposed_plan.clone().unwrap();
    assert!(decision.plan_states.iter().any(|(name, status)| *name == proposed && status.state == PlanState::Proposed));
    assert!(decision.status.conditions.iter().any(|condition| condition.message.contains("kubectl -n llm patch")));

    let waiting = carried_out(&first, &decision);
    let again = decide(&waiting, &settings);
    assert_eq!(again.status.proposed_plan.as_deref(), Some(proposed.as_str()));
    assert!(again.new_plan.is_none());

    let with = |spec: serde_json::Value| {
        let mut snapshot = waiting.clone();
        let mut deployment = testing::deployment(spec);
        deployment.status = snapshot.deployment.status.clone();
        snapshot.deployment = Arc::new(deployment);
        decide(&snapshot, &settings)
    };
    let approved = with(manual(Some(&proposed)));
    is(&approved, "Approved", "True", "Approved");
    assert_eq!(approved.status.current_plan.as_deref(), Some(proposed.as_str()));
    assert!(approved.objects.iter().any(|object| object.kind == Kind::Pod));
    is(&with(manual(Some("m-00000000"))), "Approved", "False", "ApprovedPlanStale");
    let mut changed = manual(Some(&proposed));
    changed["serving"] = json!({ "maxContextTokens": 128 });
    let stale = with(changed);
    is(&stale, "Approved", "False", "ApprovedPlanStale");
    assert!(stale.objects.iter().all(|object| object.kind != Kind::Pod));
}

#[test]
fn a_lost_node_is_planned_around() {
    let settings = testing::settings();
    let (mut snapshot, serving) = settled(json!({}));
    let lost = serving.status.shards[0].node.clone();
    snapshot.nodes.retain(|node| node.name_any() != lost);
    let decision = decide(&snapshot, &settings);
    is(&decision, "Replanning", "True", "NodeLost");
    assert_ne!(decision.status.current_plan, serving.status.current_plan);
    assert!(decision.status.shards.iter().all(|shard| shard.node != lost));
    let after = decide(&carried_out(&snapshot, &decision), &settings);
    is(&after, "Replanning", "False", "NoChange");
    is(&after, "Ready", "True", "Ready");
    assert!(after.notes.iter().any(|note| note.reason == "ReplanCompleted"));
}

#[test]
fn a_node_that_may_be_lost_is_looked_at_again_when_it_would_be() {
    let settings = testing::settings();
    let (mut snapshot, serving) = settled(json!({ "failure": { "nodeLossGraceSeconds": 20 } }));
    assert_eq!(serving.revisit, SETTLED);
    let name = serving.status.shards[0].node.clone();
    for node in snapshot.nodes.iter_mut().filter(|node| node.name_any() == name) {
        let mut changed = serde_json::to_value(&**node).unwrap();
        changed["status"]["conditions"][0]["status"] = "Unknown".into();
        *node = Arc::new(serde_json::from_value(changed).unwrap());
    }
    for (silent, revisit) in [(5, 16), (19, 2), (20, 1)] {
        snapshot.heartbeats.insert(name.clone(), Timestamp::from_second(NOW - silent).unwrap());
        let decision = decide(&snapshot, &settings);
        assert_eq!(decision.status.current_plan, serving.status.current_plan);
        assert_eq!(decision.revisit, revisit, "{silent} s");
    }
    snapshot.heartbeats.insert(name, Timestamp::from_second(NOW - 21).unwrap());
    is(&decide(&snapshot, &settings), "Replanning", "True", "NodeLost");
}

#[test]
fn an_agent_that_fails_alone_does_not_stop_a_ring_that_serves() {
    let (mut snapshot, serving) = settled(json!({}));
    for seen in snapshot.heartbeats.values_mut() {
        *seen = Timestamp::from_second(NOW - 5000).unwrap();
    }
    let decision = decide(&snapshot, &testing::settings());
    is(&decision, "Profiled", "False", "ProfileStale");
    is(&decision, "Ready", "True", "Ready");
    assert_eq!(decision.status.current_plan, serving.status.current_plan);
}

#[test]
fn the_restart_budget_ends_and_keeps_the_first_error() {
    let settings = testing::settings();
    let (mut snapshot, _) = settled(json!({ "failure": { "maxRestarts": 2 } }));
    let crash = |snapshot: &mut Snapshot, count: i32, reason: &str| {
        let mut pod = serde_json::to_value(&*snapshot.pods[0]).unwrap();
        pod["status"]["containerStatuses"][0]["ready"] = false.into();
        pod["status"]["containerStatuses"][0]["restartCount"] = count.into();
        pod["status"]["containerStatuses"][0]["lastState"] =
            json!({ "terminated": { "exitCode": 1, "reason": reason } });
        snapshot.pods[0] = Arc::new(serde_json::from_value(pod).unwrap());
        snapshot.ring = None;
        let decision = decide(snapshot, &settings);
        let mut deployment = (*snapshot.deployment).clone();
        deployment.status = Some(decision.status.clone());
        snapshot.deployment = Arc::new(deployment);
        decision
    };
    let once = crash(&mut snapshot, 1, "First");
    assert!(once.notes.iter().any(|note| note.reason == "ShardCrashed"));
    let end = crash(&mut snapshot, 3, "Later");
    is(&end, "ShardsReady", "False", "RestartBudgetExhausted");
    is(&end, "Ready", "False", "RestartBudgetExhausted");
    let failures = end.status.failures.clone().unwrap();
    assert!(failures.first_message.unwrap().contains("First"));
    assert!(failures.last_message.unwrap().contains("Later"));
    assert!(end.objects.iter().all(|object| object.kind != Kind::Pod), "no endless recreation");
}

#[test]
fn suspension_frees_memory_and_keeps_the_plan() {
    let (snapshot, serving) = settled(json!({}));
    let mut suspended = snapshot.clone();
    let mut deployment = (*snapshot.deployment).clone();
    deployment.spec.suspend = true;
    suspended.deployment = Arc::new(deployment);
    let decision = decide(&suspended, &testing::settings());
    is(&decision, "Ready", "False", "Suspended");
    assert_eq!(decision.status.current_plan, serving.status.current_plan);
    assert!(decision.taken.is_empty());
    assert!(decision.objects.iter().all(|object| !matches!(object.kind, Kind::Pod | Kind::Deployment)));
}

#[test]
fn a_plan_in_force_that_is_garbage_is_replaced() {
    let (mut snapshot, serving) = settled(json!({}));
    let mut plan = (*snapshot.plans[0]).clone();
    plan.spec.document = Some("{\"version\": 7}".into());
    snapshot.plans[0] = Arc::new(plan);
    let decision = decide(&snapshot, &testing::settings());
    assert!(decision.new_plan.is_some(), "{:?}", decision.status.conditions);
    assert_eq!(decision.status.current_plan, serving.status.current_plan, "the same inputs give the same plan");
}

#[test]
fn the_transport_is_what_was_asked_for_or_degraded() {
    let none: &str = "AsPlanned";
    for (security, ring_tls, reason, certificates) in [
        ("MutualTLS", true, none, true),
        ("MutualTLS", false, "TransportNotSecured", true),
        ("Plaintext", true, none, false),
        ("Plaintext", false, none, false),
    ] {
        let settings = crate::settings::Settings { ring_tls, ..testing::settings() };
        let (snapshot, decision) = settled_with(json!({ "transport": { "security": security } }), &settings);
        let truth = if reason == none { "False" } else { "True" };
        is(&decision, "Degraded", truth, reason);
        assert_eq!(decision.certificates, certificates, "{security} {ring_tls}");
        assert_eq!(decision.finished_pods, [""; 0]);
        // Worse things come first, and what does not run is not called insecure.
        let mut suspended = snapshot.clone();
        let mut deployment = (*snapshot.deployment).clone();
        deployment.spec.suspend = true;
        suspended.deployment = Arc::new(deployment);
        let decision = decide(&suspended, &settings);
        assert_ne!(condition(&decision, "Degraded").1, "TransportNotSecured");
    }
}

#[test]
fn an_upgrade_reaches_the_workers() {
    let before = testing::settings();
    let (mut snapshot, serving) = settled(json!({}));
    let upgraded = crate::settings::Settings { image: "lime:next".into(), ..testing::settings() };
    let after = decide(&snapshot, &upgraded);
    assert_eq!(after.status.current_plan, serving.status.current_plan);
    assert_eq!(after.finished_pods.len(), snapshot.pods.len());
    let told = after.notes.iter().find(|note| note.reason == "WorkersUpdated").unwrap();
    assert!(told.message.contains("lime:next"), "{told:?}");
    assert_eq!(decide(&carried_out(&snapshot, &after), &upgraded).finished_pods, [""; 0]);
    // Pods of an operator that noted no template go with their image alone.
    for pod in &mut snapshot.pods {
        let mut changed = (**pod).clone();
        changed.metadata.annotations = None;
        *pod = Arc::new(changed);
    }
    assert_eq!(decide(&snapshot, &before).finished_pods, [""; 0]);
    assert_eq!(decide(&snapshot, &upgraded).finished_pods.len(), snapshot.pods.len());
}

#[test]
fn workers_that_speak_something_else_are_made_anew() {
    let plain = testing::settings();
    let secured = crate::settings::Settings { ring_tls: true, ..testing::settings() };
    let spec = || json!({ "transport": { "security": "MutualTLS" } });
    let (snapshot, before) = settled_with(spec(), &plain);
    let after = decide(&snapshot, &secured);
    assert_eq!(after.status.current_plan, before.status.current_plan, "the plan has nothing to do with it");
    assert_eq!(after.finished_pods.len(), snapshot.pods.len());
    // A pod of an operator that knew no such label speaks plain text.
    let mut old = snapshot.clone();
    for pod in &mut old.pods {
        let mut changed = (**pod).clone();
        changed.metadata.labels.as_mut().unwrap().remove(crate::names::TRANSPORT_LABEL);
        *pod = Arc::new(changed);
    }
    assert_eq!(decide(&old, &plain).finished_pods, [""; 0]);
    assert_eq!(decide(&old, &secured).finished_pods.len(), old.pods.len());
}

#[test]
fn what_happens_is_told_when_it_happens() {
    let settings = testing::settings();
    let told = |decision: &Decision, reason: &str| decision.notes.iter().filter(|note| note.reason == reason).count();
    let first = testing::snapshot(json!({}));
    let planned = decide(&first, &settings);
    let begun = decide(&carried_out(&first, &planned), &settings);
    assert_eq!((told(&planned, "ShardStarted"), told(&begun, "ShardStarted")), (0, planned.status.shards.len()));

    let (mut snapshot, serving) = settled(json!({}));
    let lost = serving.status.shards[0].node.clone();
    let gone = snapshot.nodes.iter().position(|node| node.name_any() == lost).unwrap();
    let node = snapshot.nodes.remove(gone);
    let replanned = decide(&snapshot, &settings);
    assert_eq!((told(&replanned, "NodeLost"), told(&replanned, "NodeReturned")), (1, 0));
    let mut after = carried_out(&snapshot, &replanned);
    after.nodes.push(node);
    let back = decide(&after, &settings);
    assert_eq!((told(&back, "NodeLost"), told(&back, "NodeReturned")), (0, 1));

    let (mut snapshot, serving) = settled(json!({}));
    let pressed = serving.status.shards[0].node.clone();
    snapshot.profiles = snapshot
        .profiles
        .iter()
        .map(|profile| {
            let memory = if profile.name_any() == pressed { 10 } else { 60 };
            Arc::new(serde_json::from_value(testing::profile(&profile.name_any(), memory)).unwrap())
        })
        .collect();
    let decision = decide(&snapshot, &settings);
    assert_eq!(told(&decision, "MemoryPressure"), 0, "a moment is none");
    let mut snapshot = carried_out(&snapshot, &decision);
    snapshot.now = Timestamp::from_second(NOW + 5).unwrap();
    let decision = decide(&snapshot, &settings);
    assert_eq!(told(&decision, "MemoryPressure"), 1);
    let mut snapshot = carried_out(&snapshot, &decision);
    assert_eq!(told(&decide(&snapshot, &settings), "MemoryPressure"), 0);
    for seen in snapshot.heartbeats.values_mut() {
        *seen = Timestamp::from_second(NOW - 5000).unwrap();
    }
    assert_eq!(told(&decide(&snapshot, &settings), "ProfileStale"), 3);
}
