//! Memory: what LIME's own workers hold is no pressure, what others take is told, and nothing slower comes of it.

use lime_plan::Bytes;

use super::*;

/// The figures of the nodes change: mebibytes that are free, mebibytes that workers hold.
fn figures(snapshot: &mut Snapshot, of: impl Fn(&str) -> (i64, u64)) {
    let names: Vec<String> = snapshot.nodes.iter().map(|node| node.name_any()).collect();
    snapshot.profiles = names
        .iter()
        .map(|name| Arc::new(serde_json::from_value(testing::profile(name, of(name).0)).unwrap()))
        .collect();
    snapshot.held = names.iter().map(|name| (name.clone(), Bytes::mib(of(name).1))).collect();
}

/// Visits every ten seconds; every decision is carried out. No ring ever answers by the plan `dead`.
fn pass(snapshot: &mut Snapshot, seconds: i64, dead: Option<&str>) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for _ in 0..seconds / 10 {
        snapshot.now = Timestamp::from_second(snapshot.now.as_second() + 10).unwrap();
        snapshot.heartbeats = snapshot.nodes.iter().map(|node| (node.name_any(), snapshot.now)).collect();
        snapshot.ring = snapshot.ring.take().filter(|ring| Some(ring.plan.as_str()) != dead);
        let decision = decide(snapshot, &testing::settings());
        *snapshot = carried_out(snapshot, &decision);
        decisions.push(decision);
    }
    decisions
}

fn parts(snapshot: &Snapshot) -> Vec<(String, u64)> {
    let current = snapshot.deployment.status.as_ref().and_then(|status| status.current_plan.clone()).unwrap();
    let plan = snapshot.plans.iter().find(|plan| plan.name_any() == current).unwrap();
    let of =
        |part: &lime_api::Assignment| (part.node.clone(), u64::try_from(part.memory_bytes).unwrap().div_ceil(1 << 20));
    plan.spec.assignments.iter().map(of).collect()
}

#[test]
fn what_its_own_workers_hold_is_no_pressure() {
    let (mut snapshot, serving) = settled(json!({ "nodes": { "memoryReserve": "0" } }));
    let parts = parts(&snapshot);
    // The workers load, step by step, and the agents see memory go.
    for share in [10, 50, 90, 100] {
        figures(&mut snapshot, |name| {
            let held = parts.iter().find(|(node, _)| node == name).map_or(0, |(_, all)| all * share / 100);
            (60 - i64::try_from(held).unwrap(), held)
        });
        for decision in pass(&mut snapshot, 300, None) {
            is(&decision, "Degraded", "False", "AsPlanned");
            is(&decision, "Replanning", "False", "NoChange");
            assert_eq!(decision.status.current_plan, serving.status.current_plan, "{share} %");
        }
    }
}

#[test]
fn figures_that_are_not_of_one_moment_are_no_pressure() {
    let (mut snapshot, _) = settled(json!({}));
    let parts = parts(&snapshot);
    // The agents see what was loaded; what the workers say of it is from before.
    figures(&mut snapshot, |name| {
        let held = parts.iter().find(|(node, _)| node == name).map_or(0, |(_, all)| *all);
        (60 - i64::try_from(held).unwrap(), 0)
    });
    let first = &pass(&mut snapshot, 10, None)[0];
    is(first, "Degraded", "False", "AsPlanned");
    assert!(first.notes.iter().all(|note| !note.warning), "{:?}", first.notes);
    figures(&mut snapshot, |name| {
        let held = parts.iter().find(|(node, _)| node == name).map_or(0, |(_, all)| *all);
        (60 - i64::try_from(held).unwrap(), held)
    });
    for decision in pass(&mut snapshot, 60, None) {
        is(&decision, "Degraded", "False", "AsPlanned");
        assert!(decision.notes.iter().all(|note| !note.warning), "{:?}", decision.notes);
    }
}

#[test]
fn what_others_take_is_told_and_makes_for_no_slower_plan_while_requests_are_answered() {
    let (mut snapshot, serving) = settled(json!({}));
    let pressed = serving.status.shards[0].node.clone();
    figures(&mut snapshot, |name| if name == pressed { (10, 0) } else { (60, 0) });
    let decisions = pass(&mut snapshot, 3600, None);
    is(&decisions[0], "Degraded", "False", "AsPlanned");
    assert_eq!(decisions[0].revisit, 5, "it is looked at again soon");
    is(&decisions[1], "Degraded", "True", "MemoryPressure");
    for decision in &decisions {
        assert_eq!(decision.status.current_plan, serving.status.current_plan);
        is(decision, "Ready", "True", "Ready");
    }
    let suppressed = decisions.iter().flat_map(|it| &it.notes).filter(|note| note.reason == "ReplanSuppressed").count();
    assert_eq!(suppressed, 1, "it was tried once");
    figures(&mut snapshot, |_| (60, 0));
    let after = pass(&mut snapshot, 600, None);
    is(&after[0], "Degraded", "False", "AsPlanned");
    assert!(after.iter().all(|decision| decision.status.current_plan == serving.status.current_plan));
}

#[test]
fn what_cannot_go_on_is_planned_anew_and_the_better_plan_returns_when_memory_is_free() {
    let (mut snapshot, serving) = settled(json!({}));
    let pressed = serving.status.shards[0].node.clone();
    figures(&mut snapshot, |name| if name == pressed { (10, 0) } else { (60, 0) });
    // The worker was ended for its memory: nobody is answered.
    let first = pass(&mut snapshot, 130, serving.status.current_plan.as_deref());
    let moved = first.iter().find(|decision| decision.status.current_plan != serving.status.current_plan).unwrap();
    is(moved, "Replanning", "True", "MemoryPressure");
    let worse = snapshot.deployment.status.clone().unwrap().current_plan;
    pass(&mut snapshot, 600, None);
    assert_eq!(
        snapshot.deployment.status.clone().unwrap().current_plan,
        worse,
        "it stays while others have the memory"
    );

    figures(&mut snapshot, |_| (60, 0));
    let waits = pass(&mut snapshot, 120, None);
    assert!(waits.iter().all(|decision| decision.status.current_plan == worse), "it must last");
    assert!(waits.iter().all(|decision| condition(decision, "Replanning").0 == "False"), "figures alone are no news");
    let back = pass(&mut snapshot, 30, None);
    assert_eq!(back.last().unwrap().status.current_plan, serving.status.current_plan);
    assert!(back.iter().any(|decision| condition(decision, "Replanning").1 == "NodesChanged"));
    let rest = pass(&mut snapshot, 3600, None);
    assert!(rest.iter().all(|decision| decision.status.current_plan == serving.status.current_plan));
}

#[test]
fn a_plan_that_was_just_put_in_force_is_not_replaced_for_what_the_one_before_it_suffered_from() {
    let (mut snapshot, serving) = settled(json!({}));
    let pressed = serving.status.shards[0].node.clone();
    figures(&mut snapshot, |name| if name == pressed { (10, 0) } else { (60, 0) });
    let dead = serving.status.current_plan.clone();
    let first = pass(&mut snapshot, 130, dead.as_deref());
    let moved = first.last().unwrap().status.current_plan.clone();
    assert_ne!(moved, dead, "the worker was ended for its memory, so there is another plan");
    // Its pods are made where others go: for a moment the agents still say what was free with those, and nobody says that he holds it.
    figures(&mut snapshot, |_| (10, 0));
    for (visit, decision) in pass(&mut snapshot, 20, moved.as_deref()).iter().enumerate() {
        if visit > 0 {
            is(decision, "Replanning", "Unknown", "MemoryPressure");
        }
        assert_eq!(decision.status.current_plan, moved);
    }
    figures(&mut snapshot, |name| if name == pressed { (10, 0) } else { (60, 0) });
    for decision in pass(&mut snapshot, 600, None) {
        is(&decision, "Degraded", "False", "AsPlanned");
        assert_eq!(decision.status.current_plan, moved);
    }
}

/// Weights come, and for longer than a cause must last a node seems to have less than the plan takes.
#[test]
fn a_plan_whose_weights_come_is_not_replaced_for_figures_of_other_moments() {
    let (mut snapshot, _) = settled(json!({ "nodes": { "memoryReserve": "0" } }));
    let before = snapshot.deployment.status.clone().unwrap().current_plan;
    let parts = parts(&snapshot);
    let loading = |snapshot: &mut Snapshot, trouble: Option<&str>| {
        let ring = snapshot.ring.as_mut().unwrap();
        (ring.ready, ring.phase, ring.trouble) = (false, "loading".into(), trouble.map(str::to_owned));
        ring.loaded = parts.iter().map(|(node, _)| (node.clone(), 40)).collect();
    };
    let mut look = |second: i64, trouble: Option<&str>| {
        figures(&mut snapshot, |_| (20, 0));
        snapshot.now = Timestamp::from_second(NOW + second).unwrap();
        snapshot.heartbeats.values_mut().for_each(|seen| *seen = snapshot.now);
        loading(&mut snapshot, trouble);
        let decision = decide(&snapshot, &testing::settings());
        snapshot.since = decision.since.clone();
        decision
    };
    for second in (0..600).step_by(10) {
        let decision = look(second, None);
        assert_eq!(decision.status.current_plan, before, "after {second} s");
        assert!(decision.new_plan.is_none());
    }
    let stuck = look(610, Some("device \"a\" has no memory for block 3"));
    assert!(stuck.new_plan.is_some(), "what cannot be loaded is planned anew");
}
