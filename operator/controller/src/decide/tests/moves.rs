//! Planned moves, and shards that the scheduler does not place.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::*;

fn cordon(snapshot: &mut Snapshot, name: &str, cordoned: bool) {
    for node in snapshot.nodes.iter_mut().filter(|node| node.name_any() == name) {
        let mut changed: Node = (**node).clone();
        changed.spec.get_or_insert_default().unschedulable = Some(cordoned);
        *node = Arc::new(changed);
    }
}

fn change_pod(snapshot: &mut Snapshot, node: &str, change: impl Fn(&mut serde_json::Value)) {
    let of_node = |pod: &Pod| pod.labels().get(crate::names::NODE_LABEL).map(String::as_str) == Some(node);
    for pod in snapshot.pods.iter_mut().filter(|pod| of_node(pod)) {
        let mut changed = serde_json::to_value(&**pod).unwrap();
        change(&mut changed);
        *pod = Arc::new(serde_json::from_value(changed).unwrap());
    }
}

fn evict(snapshot: &mut Snapshot, node: &str) {
    change_pod(snapshot, node, |pod| pod["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z".into());
}

fn refuse(snapshot: &mut Snapshot, node: &str) {
    change_pod(snapshot, node, |pod| {
        pod["status"] = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: Insufficient memory" },
        ]});
    });
}

#[test]
fn drains_in_a_row_are_moves_that_count_for_nothing() {
    let settings = testing::settings();
    let (mut snapshot, serving) = settled(json!({ "placement": { "replan": { "maxPerHour": 0 } } }));
    let mut plan = serving.status.current_plan;
    for round in 0..6 {
        let node = snapshot.deployment.status.as_ref().unwrap().shards[0].node.clone();
        cordon(&mut snapshot, &node, true);
        let waiting = decide(&snapshot, &settings);
        is(&waiting, "Replanning", "Unknown", "NodeDraining");
        assert_eq!(waiting.status.current_plan, plan, "a cordon alone must last");
        evict(&mut snapshot, &node);
        let moved = decide(&snapshot, &settings);
        is(&moved, "Replanning", "True", "NodeDraining");
        assert_ne!(moved.status.current_plan, plan, "round {round}");
        assert_eq!(moved.status.recent_replans, []);
        assert!(moved.status.shards.iter().all(|shard| shard.node != node));
        plan = moved.status.current_plan.clone();
        snapshot = carried_out(&snapshot, &moved);
        snapshot = carried_out(&snapshot, &decide(&snapshot, &settings));
        cordon(&mut snapshot, &node, false);
    }
}

#[test]
fn nodes_that_are_cordoned_together_make_for_one_move() {
    let settings = testing::settings();
    let (mut snapshot, serving) = settled(json!({}));
    let nodes: Vec<String> = serving.status.shards.iter().take(2).map(|shard| shard.node.clone()).collect();
    let mut plans = std::collections::BTreeSet::new();
    for second in (0..300).step_by(10) {
        for (node, at) in nodes.iter().zip([0, 60]) {
            cordon(&mut snapshot, node, second >= at);
        }
        snapshot.now = Timestamp::from_second(NOW + second).unwrap();
        snapshot.heartbeats.values_mut().for_each(|seen| *seen = snapshot.now);
        let decision = decide(&snapshot, &settings);
        plans.extend(decision.status.current_plan.clone());
        snapshot = carried_out(&snapshot, &decision);
    }
    assert_eq!(plans.len(), 2, "{plans:?}");
}

#[test]
fn a_template_that_keeps_workers_off_a_node_has_it_planned_around() {
    let settings = testing::settings();
    let (snapshot, serving) = settled(json!({}));
    let node = serving.status.shards[0].node.clone();
    let not_there = json!({ "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": [node] }] });
    let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [not_there] } });
    let spec = json!({ "template": { "worker": { "affinity": { "nodeAffinity": required } } } });
    // From the beginning, and where it comes to a plan that is in force.
    let first = decide(&testing::snapshot(spec.clone()), &settings);
    assert!(first.status.shards.iter().all(|shard| shard.node != node), "{:?}", first.status.shards);
    assert!(condition_message(&first, "Profiled").contains(&format!("{node} (AffinityMismatch)")));
    let mut deployment = testing::deployment(spec);
    deployment.status = snapshot.deployment.status.clone();
    let mut changed = Snapshot { deployment: Arc::new(deployment), ..snapshot };
    is(&decide(&changed, &settings), "Replanning", "Unknown", "NodeDraining");
    changed.pods.retain(|pod| pod.labels().get(crate::names::NODE_LABEL).map(String::as_str) != Some(node.as_str()));
    let moved = decide(&changed, &settings);
    is(&moved, "Replanning", "True", "NodeDraining");
    assert!(moved.status.shards.iter().all(|shard| shard.node != node), "{:?}", moved.status.shards);
}

#[test]
fn a_shard_that_the_scheduler_refuses_is_planned_elsewhere() {
    let settings = testing::settings();
    let (mut snapshot, serving) = settled(json!({}));
    let node = serving.status.shards[0].node.clone();
    let mut moved_at = None;
    for second in (0..1200).step_by(10) {
        snapshot.now = Timestamp::from_second(NOW + second).unwrap();
        snapshot.heartbeats.values_mut().for_each(|seen| *seen = snapshot.now);
        if snapshot.deployment.status.as_ref().unwrap().shards.iter().any(|shard| shard.node == node) {
            refuse(&mut snapshot, &node);
            snapshot.ring = None;
        }
        let decision = decide(&snapshot, &settings);
        if decision.status.current_plan != serving.status.current_plan {
            moved_at = moved_at.or(Some(second));
            assert!(decision.status.shards.iter().all(|shard| shard.node != node), "it is not sent there again");
        } else {
            is(&decision, "Replanning", "Unknown", "ShardUnschedulable");
            assert!(condition_message(&decision, "ShardsReady").contains("Insufficient memory"));
        }
        snapshot = carried_out(&snapshot, &decision);
    }
    assert_eq!(moved_at, Some(120));
}

#[test]
fn what_other_pods_have_requested_bounds_a_node() {
    let mut snapshot = testing::snapshot(json!({}));
    for node in &mut snapshot.nodes {
        let mut changed: Node = (**node).clone();
        let allocatable = serde_json::from_value(json!({ "memory": "64Mi" })).unwrap();
        changed.status.get_or_insert_default().allocatable = Some(allocatable);
        *node = Arc::new(changed);
    }
    snapshot.requested.insert("a".into(), lime_plan::Bytes::mib(63) + lime_plan::Bytes(1 << 19));
    let decision = decide(&snapshot, &testing::settings());
    is(&decision, "Planned", "True", "Planned");
    assert!(decision.status.shards.iter().all(|shard| shard.node != "a"), "{:?}", decision.status.shards);
    let told = condition_message(&decision, "Profiled");
    assert!(told.contains("a (NoMemoryLeft)"), "{told}");
}
