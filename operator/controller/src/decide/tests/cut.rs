//! A link between two nodes of the plan is lost, though both are there.

use lime_api::{LimeNodeProfile, LimePlanSpec};

use super::*;
use crate::{
    links::{self, Ends},
    planning,
    snapshot::RingCause,
};

/// Nodes `a` to `d`, of which two hold the model, and a plan that serves.
fn serving(names: &[&str], mebibytes: i64, spec: serde_json::Value) -> Snapshot {
    let mut snapshot = testing::snapshot(spec);
    snapshot.nodes = names.iter().map(|name| Arc::new(serde_json::from_value(testing::node(name)).unwrap())).collect();
    snapshot.profiles = names.iter().map(|name| profile(name, mebibytes, names, NOW - 100)).collect();
    snapshot.heartbeats = names.iter().map(|name| ((*name).to_owned(), snapshot.now)).collect();
    for _ in 0..3 {
        snapshot = carried_out(&snapshot, &decide(&snapshot, &testing::settings()));
    }
    is(&decide(&snapshot, &testing::settings()), "Ready", "True", "Ready");
    snapshot
}

/// A node that measured the way to all others at that second.
fn profile(name: &str, mebibytes: i64, all: &[&str], measured: i64) -> Arc<LimeNodeProfile> {
    let mut whole = testing::profile(name, mebibytes);
    let at = Timestamp::from_second(measured).unwrap();
    let link = |peer: &&str| json!({ "peer": peer, "bandwidthBitsPerSecond": 1_000_000_000, "roundTripMicroseconds": 200, "measuredAt": at });
    whole["status"]["links"] = all.iter().filter(|peer| **peer != name).map(link).collect();
    Arc::new(serde_json::from_value(whole).unwrap())
}

/// The plan in force, as workers read it.
fn in_force(snapshot: &Snapshot, decision: &Decision) -> LimePlanSpec {
    let name = decision.status.current_plan.as_ref().unwrap();
    let known = snapshot.plans.iter().map(AsRef::as_ref).chain(&decision.new_plan);
    known.into_iter().find(|plan| plan.name_any() == *name).unwrap().spec.clone()
}

fn uses(spec: &LimePlanSpec, ends: &Ends) -> bool {
    links::used(&planning::document(spec).unwrap()).contains(ends)
}

/// The same, `seconds` later, with a gateway that says that `ends` is lost.
fn later(snapshot: &Snapshot, seconds: i64, ends: &Ends) -> Snapshot {
    let mut after = snapshot.clone();
    after.now = Timestamp::from_second(NOW + seconds).unwrap();
    after.heartbeats.values_mut().for_each(|seen| *seen = after.now);
    let plan = snapshot.deployment.status.as_ref().and_then(|status| status.current_plan.clone()).unwrap();
    let trouble = Some("the link from device \"a\" to device \"b\" is lost".to_owned());
    let cause = Some(RingCause::Link(ends.clone()));
    after.ring = Some(RingReport { plan, phase: "recovering".into(), trouble, cause, ..RingReport::default() });
    after
}

#[test]
fn a_lost_link_is_named_waited_for_and_planned_around() {
    let settings = testing::settings();
    let names = ["a", "b", "c", "d"];
    let before = serving(&names, 60, json!({}));
    let plan = in_force(&before, &decide(&before, &settings));
    let document = planning::document(&plan).unwrap();
    let ends = Ends::of(&document.devices[0].name, &document.devices[1].name);
    let [one, other] = ends.both();

    let mut cut = later(&before, 0, &ends);
    let first = decide(&cut, &settings);
    is(&first, "Degraded", "True", "LinkLost");
    is(&first, "Ready", "False", "LinkLost");
    is(&first, "Replanning", "Unknown", "LinkLost");
    for told in ["Degraded", "Replanning"] {
        let message = condition_message(&first, told);
        assert!(message.contains(&format!("the link between {one} and {other} is lost")), "{message}");
    }
    assert_eq!((first.status.lost_links.len(), first.new_plan.is_none()), (0, true));
    let told = first.notes.iter().find(|note| note.reason == "LinkLost").unwrap();
    assert!(told.warning && told.message.contains(one) && told.message.contains(other), "{told:?}");

    // It comes back within the grace time: nothing happened.
    let mut well = carried_out(&cut, &first);
    well.now = Timestamp::from_second(NOW + 30).unwrap();
    let back = decide(&well, &settings);
    is(&back, "Ready", "True", "Ready");
    is(&back, "Degraded", "False", "AsPlanned");
    assert!(back.status.lost_links.is_empty() && back.since.is_empty());

    cut.since = first.since.clone();
    let still = decide(&later(&cut, 39, &ends), &settings);
    assert_eq!(still.new_plan, None);
    let late = later(&cut, 40, &ends);
    let replanned = decide(&late, &settings);
    is(&replanned, "Replanning", "True", "LinkLost");
    assert_ne!(replanned.status.current_plan, first.status.current_plan);
    let plan = in_force(&late, &replanned);
    assert!(!uses(&plan, &ends), "{:?}", plan.assignments);
    let lost = &replanned.status.lost_links[0];
    assert_eq!((lost.one.as_str(), lost.other.as_str(), lost.since.0), (one, other, late.now));
    assert_eq!(lost.measured.len(), 2);

    // It is remembered, by a new leader too, and the node that was left out for it is no news.
    let mut after = carried_out(&late, &replanned);
    for seconds in [60, 600, 100_000] {
        after.now = Timestamp::from_second(NOW + seconds).unwrap();
        after.heartbeats.values_mut().for_each(|seen| *seen = after.now);
        after.tried.clear();
        let decision = decide(&after, &settings);
        is(&decision, "Ready", "True", "Ready");
        assert_eq!(decision.status.current_plan, replanned.status.current_plan, "after {seconds} s");
        assert_eq!(decision.status.lost_links.len(), 1);
        after = carried_out(&after, &decision);
    }
}

#[test]
fn a_link_that_is_measured_again_may_be_planned_with() {
    let settings = testing::settings();
    let names = ["a", "b", "c"];
    // In memory with three nodes, from disk with two: that gains enough for a way back.
    let before = serving(&names, 45, json!({}));
    let first = decide(&before, &settings);
    assert_eq!(first.status.nodes, Some(3));
    let ends = Ends::of("a", "b");
    let mut cut = later(&before, 0, &ends);
    cut.since = decide(&cut, &settings).since;
    let late = later(&cut, 40, &ends);
    let replanned = decide(&late, &settings);
    let plan = in_force(&late, &replanned);
    // A ring of three uses every link there is: one of the two ends goes, and the reason says why.
    assert_eq!(plan.nodes, 2);
    let left_out = plan.rejected_nodes.iter().find(|node| node.reason == "LinkLost").unwrap();
    assert!(ends.both().contains(&left_out.node.as_str()), "{left_out:?}");
    assert!(left_out.message.contains("the link between a and b is lost"), "{left_out:?}");

    let mut after = carried_out(&late, &replanned);
    let mut visit = |seconds: i64, measured: [i64; 2]| {
        after.now = Timestamp::from_second(NOW + seconds).unwrap();
        after.heartbeats.values_mut().for_each(|seen| *seen = after.now);
        after.profiles = vec![
            profile("a", 45, &names, NOW + measured[0]),
            profile("b", 45, &names, NOW + measured[1]),
            profile("c", 45, &names, NOW),
        ];
        let decision = decide(&after, &settings);
        after = carried_out(&after, &decision);
        (decision.status.lost_links.len(), decision.status.nodes)
    };
    assert_eq!(visit(1_000, [-100, -100]), (1, Some(2)));
    assert_eq!(visit(1_010, [900, -100]), (1, Some(2)), "one way is well, the other is not known to be");
    assert_eq!(visit(1_020, [900, 910]), (0, Some(2)));
    assert_eq!(visit(1_139, [900, 910]), (0, Some(2)), "it must last");
    assert_eq!(visit(1_140, [900, 910]), (0, Some(3)));
}

#[test]
fn what_a_gateway_says_of_other_links_or_plans_moves_nothing() {
    let settings = testing::settings();
    let before = serving(&["a", "b", "c"], 60, json!({}));
    let used = links::used(&planning::document(&in_force(&before, &decide(&before, &settings))).unwrap());
    let ends = used.first().unwrap();
    let mut elsewhere = later(&before, 0, &Ends::of("a", "nobody"));
    let degraded = |snapshot: &Snapshot| {
        let decision = decide(snapshot, &settings);
        (condition(&decision, "Degraded").1, decision.since.contains_key("cut"))
    };
    assert_eq!(degraded(&elsewhere), ("AsPlanned".into(), false));
    elsewhere = later(&before, 0, ends);
    assert_eq!(degraded(&elsewhere), ("LinkLost".into(), true));
    elsewhere.ring.as_mut().unwrap().plan = "an-earlier-one".into();
    assert_eq!(degraded(&elsewhere), ("AsPlanned".into(), false));
}

#[test]
fn where_no_plan_goes_without_the_link_it_is_said_and_the_ring_is_waited_for() {
    let settings = testing::settings();
    let before = serving(&["a", "b"], 80, json!({ "offload": { "policy": "Never" } }));
    let ends = Ends::of("a", "b");
    let mut cut = later(&before, 0, &ends);
    cut.since = decide(&cut, &settings).since;
    let late = later(&cut, 40, &ends);
    let decision = decide(&late, &settings);
    is(&decision, "Planned", "False", "Infeasible");
    let message = condition_message(&decision, "Planned");
    assert!(message.contains("the link between a and b is lost, and no plan uses it"), "{message}");
    assert_eq!(decision.status.current_plan, before.deployment.status.as_ref().unwrap().current_plan);
    // The link comes back, and with it the ring by the plan that stayed in force: over it requests are answered.
    let back = decide(&carried_out(&late, &decision), &settings);
    is(&back, "Ready", "True", "Ready");
    assert_eq!(back.status.lost_links, []);
}

#[test]
fn other_causes_have_their_reasons() {
    let settings = testing::settings();
    let before = serving(&["a", "b", "c"], 60, json!({}));
    let mut troubled = later(&before, 0, &Ends::of("a", "b"));
    let mut with = |cause: RingCause, trouble: &str| {
        let ring = troubled.ring.as_mut().unwrap();
        (ring.cause, ring.trouble) = (Some(cause), Some(trouble.to_owned()));
        decide(&troubled, &settings)
    };
    let version = with(RingCause::Version("a".into()), "it is LIME 9.9.9 (wire 7), this is LIME 0.1.0 (wire 1)");
    is(&version, "Ready", "False", "VersionMismatch");
    assert!(condition_message(&version, "Ready").contains("wire 7"));
    let full = with(RingCause::Weights("a".into(), "DiskFull"), "3 GB more are needed");
    is(&full, "WeightsReady", "False", "DiskFull");
    is(&full, "Ready", "False", "DiskFull");
    assert!(full.notes.iter().any(|note| note.reason == "DiskFull" && note.warning));
    let damaged = with(RingCause::Weights("a".into(), "DigestMismatch"), "the disk lies");
    is(&damaged, "WeightsReady", "False", "DigestMismatch");
}
