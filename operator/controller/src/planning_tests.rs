use serde_json::json;

use super::*;
use crate::{candidates::candidates, testing};

fn made(spec: serde_json::Value) -> LimePlanSpec {
    let snapshot = testing::snapshot(spec);
    let wish = Wish::check(&snapshot.deployment).unwrap();
    make(&wish, &testing::card(), &candidates(&snapshot, &wish), Bytes::mib(8))
}

#[test]
fn a_plan_covers_the_model_and_keeps_to_budgets() {
    let spec = made(json!({}));
    assert!(spec.feasible);
    assert_eq!(spec.assignments.iter().map(|part| part.layer_count).sum::<i32>(), 10);
    assert!(spec.assignments.iter().all(|part| part.memory_bytes <= part.budget_bytes));
    assert_eq!(spec.assignments.iter().filter(|part| part.head).count(), 1);
    let prediction = spec.prediction.as_ref().unwrap();
    assert!(prediction.time_per_token_milliseconds > 0 && !prediction.binds.is_empty());
    assert_eq!(document(&spec).unwrap().input_hash, spec.input_hash);
    assert_eq!(made(json!({})), spec, "the same inputs give the same plan");
}

#[test]
fn what_cannot_be_says_what_is_missing_and_what_would_fit() {
    let spec = made(json!({ "offload": { "policy": "Never" }, "nodes": { "memoryReserve": "30Mi" } }));
    assert!(!spec.feasible);
    let shortfall = spec.shortfall.unwrap();
    assert!(shortfall.missing_bytes > 0, "{shortfall:?}");
    assert!(!shortfall.would_fit.is_empty(), "{shortfall:?}");
    assert!(shortfall.message.contains("does not hold the model"), "{shortfall:?}");
}

#[test]
fn counts_of_nodes_are_kept() {
    let most = made(json!({ "nodes": { "maxCount": 1 } }));
    assert!(most.feasible && most.nodes == 1, "{most:?}");
    assert!(most.rejected_nodes.iter().any(|node| node.message.contains("no more than 1 may take part")), "{most:?}");
    let least = made(json!({ "nodes": { "minCount": 3 } }));
    assert!(least.feasible && least.nodes == 3, "{:?}", least.shortfall);
    let too_many = made(json!({ "nodes": { "minCount": 4 } }));
    assert!(!too_many.feasible);
    assert!(too_many.shortfall.unwrap().message.contains("minCount asks for 4 nodes, 3 of 3"));
}

#[test]
fn a_full_disk_keeps_a_node_out() {
    let snapshot = testing::snapshot(json!({}));
    let wish = testing::wish();
    let mut found = candidates(&snapshot, &wish);
    found.disks.insert("b".into(), Bytes::mib(1));
    let spec = make(&wish, &testing::card(), &found, Bytes::mib(8));
    assert!(spec.assignments.iter().all(|part| part.node != "b"));
    assert!(spec.rejected_nodes.iter().any(|node| node.node == "b" && node.reason == "NoDiskLeft"));
}

#[test]
fn hand_written_documents_are_checked() {
    let mut spec = made(json!({}));
    for garbage in [None, Some(""), Some("{}"), Some("[1"), Some("{\"version\":1}")] {
        spec.document = garbage.map(str::to_owned);
        assert!(document(&spec).is_err(), "{garbage:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// The other entrance, `lime plan`, is held to the same by `runtime/cli/src/wish/tests.rs`.
    #[test]
    fn the_operator_asks_what_the_spec_says(
        context in 1..16_777_216_i32, requests in 1..4096_i32, chunk in 1..65_536_i32, least in 1..1024_i32, more in 0..1024_i32,
    ) {
        let deployment = testing::deployment(json!({
            "serving": { "maxContextTokens": context, "maxConcurrentRequests": requests, "prefillChunkTokens": chunk },
            "nodes": { "minCount": least, "maxCount": (least + more).min(1024) },
        }));
        let (wish, card) = (Wish::check(&deployment).unwrap(), testing::card());
        proptest::prop_assert_eq!(wish.goal(&card), deployment.spec.goal(&card));
    }
}
