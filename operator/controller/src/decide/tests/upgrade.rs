//! A plan of an earlier version, to which the same spec meant other tokens.

use std::sync::Arc;

use lime_api::LimePlan;
use lime_plan::Dtype;
use serde_json::{Value, json};

use super::*;
use crate::{planning, wish::Wish};

/// A deployment with what the API server of an earlier version wrote into it as the default, and the plan that was in force then, with
/// KV entries in the weights' type.
fn upgraded(mut spec: Value) -> (Snapshot, Decision) {
    spec["serving"] = json!({ "kvCacheType": "BF16" });
    let (mut snapshot, serving) = settled(spec.clone());
    spec["serving"] = json!({ "kvCacheType": "Weights" });
    let mut deployment = testing::deployment(spec);
    deployment.status = snapshot.deployment.status.clone();
    let wish = Wish::check(&deployment).unwrap();
    snapshot.deployment = Arc::new(deployment);
    for plan in &mut snapshot.plans {
        let mut older = LimePlan::clone(plan);
        older.spec.wish_hash = wish.hash();
        *plan = Arc::new(older);
    }
    (snapshot, serving)
}

fn entries(plan: &LimePlan) -> Dtype {
    planning::document(&plan.spec).unwrap().kv
}

fn gateway(decision: &Decision) -> &Value {
    let mut objects = decision.objects.iter().filter(|object| object.kind == Kind::Deployment);
    &objects.next_back().unwrap().body["spec"]["template"]
}

#[test]
fn a_plan_with_entries_of_the_older_default_is_replaced_with_its_gateway() {
    let settings = testing::settings();
    let (snapshot, serving) = upgraded(json!({}));
    assert_eq!(entries(&snapshot.plans[0]), Dtype::Bf16);
    let decision = decide(&snapshot, &settings);
    is(&decision, "Replanning", "True", "SpecChanged");
    assert_ne!(decision.status.current_plan, serving.status.current_plan);
    assert_eq!(entries(decision.new_plan.as_ref().unwrap()), Dtype::F16);
    // A running gateway refuses a plan that would draw other tokens: it is made anew.
    assert_ne!(gateway(&decision), gateway(&serving));

    let after = carried_out(&snapshot, &decision);
    let again = decide(&after, &settings);
    is(&again, "Ready", "True", "Ready");
    assert!(again.new_plan.is_none());
    assert_eq!(again.status.current_plan, decision.status.current_plan);
}

#[test]
fn what_was_said_by_name_stays() {
    let settings = testing::settings();
    let (snapshot, serving) = settled(json!({ "serving": { "kvCacheType": "BF16" } }));
    let decision = decide(&snapshot, &settings);
    assert_eq!(decision.status.current_plan, serving.status.current_plan);
    assert!(decision.new_plan.is_none());
}

#[test]
fn with_manual_approval_the_plan_in_force_goes_on_until_the_new_one_is_approved() {
    let settings = testing::settings();
    let manual = |approved: Option<&str>| json!({ "placement": { "approval": "Manual", "approvedPlan": approved } });
    let (snapshot, serving) = upgraded(json!({}));
    let with = |snapshot: &Snapshot, approved: Option<&str>| {
        let mut snapshot = snapshot.clone();
        let mut spec = manual(approved);
        spec["serving"] = json!({ "kvCacheType": "Weights" });
        let mut deployment = testing::deployment(spec);
        deployment.status = snapshot.deployment.status.clone();
        snapshot.deployment = Arc::new(deployment);
        snapshot
    };
    let in_force = serving.status.current_plan.clone().unwrap();
    let waiting = with(&snapshot, Some(&in_force));
    let decision = decide(&waiting, &settings);
    assert_eq!(decision.status.current_plan.as_deref(), Some(in_force.as_str()));
    is(&decision, "Approved", "False", "ApprovedPlanStale");
    assert!(
        decision.status.conditions.iter().any(|condition| condition.message.contains("keeps KV entries in bf16")),
        "{:?}",
        decision.status.conditions
    );
    let proposed = decision.status.proposed_plan.clone().unwrap();
    assert_ne!(proposed, in_force);
    let approved = with(&carried_out(&waiting, &decision), Some(&proposed));
    assert_eq!(decide(&approved, &settings).status.current_plan, Some(proposed));
}

#[test]
fn the_older_name_of_auto_is_no_other_wish() {
    let hash = |serving: Value| Wish::check(&testing::deployment(json!({ "serving": serving }))).unwrap().hash();
    assert_eq!(hash(json!({ "kvCacheType": "Weights" })), hash(json!({ "kvCacheType": "Auto" })));
    assert_eq!(hash(json!({})), hash(json!({ "kvCacheType": "Auto" })));
    assert_ne!(hash(json!({})), hash(json!({ "kvCacheType": "F16" })));
}

#[test]
fn what_was_wished_before_there_was_a_choice_of_arithmetic_is_no_other_wish() {
    let hash = |spec: Value| Wish::check(&testing::deployment(spec)).unwrap().hash();
    assert_eq!(hash(json!({})), hash(json!({ "arithmetic": "Exact" })));
    assert_ne!(hash(json!({})), hash(json!({ "arithmetic": "Candle" })));
}
