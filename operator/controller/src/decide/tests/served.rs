//! Ready for a generation of the spec means that this generation is served.

use super::*;

/// The deployment's spec becomes another, of the next generation.
fn asks(snapshot: &Snapshot, spec: serde_json::Value) -> Snapshot {
    let mut deployment = testing::deployment(spec);
    deployment.metadata.generation = snapshot.deployment.metadata.generation.map(|generation| generation + 1);
    deployment.status = snapshot.deployment.status.clone();
    Snapshot { deployment: Arc::new(deployment), ..snapshot.clone() }
}

fn observed(decision: &Decision, type_: &str) -> Option<i64> {
    decision.status.conditions.iter().find(|it| it.type_ == type_).and_then(|it| it.observed_generation)
}

#[test]
fn a_change_that_cannot_be_served_leaves_ready_with_the_generation_that_is() {
    let settings = testing::settings();
    let (snapshot, serving) = settled(json!({}));
    assert_eq!(observed(&serving, "Ready"), Some(1));
    let mut asked = asks(&snapshot, json!({ "nodes": { "minCount": 9 } }));
    for _ in 0..3 {
        let decision = decide(&asked, &settings);
        is(&decision, "Planned", "False", "TooFewNodes");
        is(&decision, "Ready", "True", "ServesEarlierSpec");
        assert_eq!((observed(&decision, "Planned"), observed(&decision, "Ready")), (Some(2), Some(1)));
        assert_eq!(decision.status.current_plan, serving.status.current_plan);
        let message = condition_message(&decision, "Ready");
        assert!(
            message.contains("generation 2 is not served: TooFewNodes: spec.nodes.minCount asks for 9"),
            "{message}"
        );
        asked = carried_out(&asked, &decision);
    }
    let mut again = asks(&asked, json!({}));
    let decision = decide(&again, &settings);
    again = carried_out(&again, &decision);
    let decision = decide(&again, &settings);
    is(&decision, "Ready", "True", "Ready");
    assert_eq!(observed(&decision, "Ready"), Some(3));
}

#[test]
fn a_wish_that_leads_to_the_same_plan_needs_no_new_approval() {
    let settings = testing::settings();
    let manual = |approved: Option<&str>, context: i32| json!({ "placement": { "approval": "Manual", "approvedPlan": approved }, "serving": { "maxContextTokens": context } });
    let most = i32::try_from(testing::card().context).unwrap();
    let first = testing::snapshot(manual(None, most));
    let proposed = decide(&first, &settings);
    let plan = proposed.status.proposed_plan.clone().unwrap();
    let waiting = carried_out(&first, &proposed);
    let mut asked = asks(&waiting, manual(Some(&plan), most));
    for _ in 0..2 {
        asked = carried_out(&asked, &decide(&asked, &settings));
    }
    is(&decide(&asked, &settings), "Ready", "True", "Ready");

    // More than the model takes is lowered to what it takes.
    let mut more = asks(&asked, manual(Some(&plan), most * 2));
    for _ in 0..3 {
        let decision = decide(&more, &settings);
        is(&decision, "Approved", "True", "Approved");
        is(&decision, "Ready", "True", "Ready");
        assert_eq!(observed(&decision, "Ready"), Some(3));
        assert_eq!((&decision.status.proposed_plan, decision.new_plan.is_none()), (&None, true));
        assert_eq!(decision.status.current_plan.as_deref(), Some(plan.as_str()));
        more = carried_out(&more, &decision);
    }
    // What was approved before a change that does bear on the plan is stale, and the new one waits.
    let other = asks(&more, manual(Some(&plan), most / 4));
    let decision = decide(&other, &settings);
    is(&decision, "Approved", "False", "ApprovedPlanStale");
    is(&decision, "Ready", "True", "ServesEarlierSpec");
    assert!(decision.status.proposed_plan.is_some_and(|proposed| proposed != plan));
}

#[test]
fn what_stops_serving_says_why() {
    let (mut snapshot, _) = settled(json!({}));
    snapshot.ring = Some(RingReport::default());
    let decision = decide(&snapshot, &testing::settings());
    is(&decision, "Ready", "False", "RingNotReady");
    let told = decision.notes.iter().find(|note| note.reason == "NotReady").unwrap();
    assert!(told.message.len() > 10, "{told:?}");
}

#[test]
fn slower_than_predicted_is_more_than_a_rounding() {
    let (mut snapshot, serving) = settled(json!({}));
    let plan = serving.status.current_plan.clone().unwrap();
    let predicted = snapshot.plans[0].spec.prediction.as_ref().unwrap().time_per_token_microseconds;
    let mut with = |measured: i64| {
        let time_per_token_microseconds = Some(measured);
        let plan = plan.clone();
        snapshot.ring = Some(RingReport { plan, ready: true, time_per_token_microseconds, ..RingReport::default() });
        condition(&decide(&snapshot, &testing::settings()), "Degraded").1
    };
    assert_eq!(with(predicted), "AsPlanned");
    assert_eq!(with(predicted + 2_000), "AsPlanned");
    assert_eq!(with(predicted * 2 + 2_001), "SlowerThanPredicted");
}

#[test]
fn a_wish_that_changes_what_no_plan_is_made_from_keeps_its_plan_for_good() {
    let settings = testing::settings();
    for spec in [json!({ "offload": { "maxDiskPerNode": "500Gi" } }), json!({ "nodes": { "maxCount": 9 } })] {
        let (snapshot, serving) = settled(json!({}));
        let plan = serving.status.current_plan;
        let mut asked = asks(&snapshot, spec.clone());
        let mut visit = |forgets: bool, mebibytes: i64| {
            if forgets {
                asked.tried.clear();
                let profile = |name| Arc::new(serde_json::from_value(testing::profile(name, mebibytes)).unwrap());
                asked.profiles = ["a", "b", "c"].map(profile).to_vec();
            }
            let decision = decide(&asked, &settings);
            is(&decision, "Ready", "True", "Ready");
            assert_eq!(observed(&decision, "Ready"), Some(2), "{spec}");
            assert_eq!((&decision.status.current_plan, decision.new_plan.is_none()), (&plan, true), "{spec}");
            asked = carried_out(&asked, &decision);
        };
        visit(false, 60);
        // A new leader knows what is written and no more, and a plan that it made now would be another.
        visit(true, 57);
        let noted = asked.plans[0].status.as_ref().unwrap().answers.clone();
        assert_eq!(noted, [Wish::check(&asked.deployment).unwrap().hash()], "{spec}");
        // The wish before is answered too: nothing is noted twice.
        asked = asks(&asked, json!({}));
        let decision = decide(&asked, &settings);
        assert_eq!((&decision.status.current_plan, decision.new_plan.is_none()), (&plan, true), "{spec}");
        assert_eq!(carried_out(&asked, &decision).plans[0].status.as_ref().unwrap().answers, noted);
    }
}

#[test]
fn nobody_is_told_nothing() {
    let (mut snapshot, _) = settled(json!({}));
    let plan = snapshot.ring.clone().unwrap().plan;
    snapshot.ring = Some(RingReport { plan, trouble: Some(String::new()), ..RingReport::default() });
    let decision = decide(&snapshot, &testing::settings());
    assert!(decision.status.conditions.iter().all(|condition| !condition.message.trim().is_empty()));
    assert!(decision.notes.iter().all(|note| !note.message.trim().is_empty()), "{:?}", decision.notes);
    is(&decision, "Ready", "False", "RingNotReady");
}
