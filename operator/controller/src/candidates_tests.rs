use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use lime_plan::{Format, ModelCard};
use serde_json::{Value, json};

use super::*;
use crate::testing::{self, NOW};

fn reason_of(change: impl Fn(&mut Value, &mut Value, &mut Snapshot)) -> String {
    let mut snapshot = testing::snapshot(json!({}));
    let (mut node, mut profile) = (testing::node("a"), testing::profile("a", 60));
    change(&mut node, &mut profile, &mut snapshot);
    snapshot.nodes[0] = Arc::new(serde_json::from_value(node).unwrap());
    snapshot.profiles[0] = Arc::new(serde_json::from_value(profile).unwrap());
    let found = candidates(&snapshot, &testing::wish());
    assert!(found.nodes.iter().any(|node| node.name == "b"), "one node's fault is not another's");
    match found.rejected.iter().find(|node| node.node == "a") {
        Some(rejected) => {
            assert!(rejected.message.starts_with("a: "), "{}", rejected.message);
            rejected.reason.clone()
        }
        None => "taken".into(),
    }
}

#[test]
fn every_reason_to_leave_a_node_out_has_its_word() {
    type Change = fn(&mut Value, &mut Value, &mut Snapshot);
    let table: [(Change, &str); 12] = [
        (|_, _, _| {}, "taken"),
        (|node, _, _| node["spec"] = json!({ "unschedulable": true }), "Unschedulable"),
        (|node, _, _| node["spec"] = json!({ "taints": [{ "key": "gpu", "effect": "NoSchedule" }] }), "Unschedulable"),
        (|node, _, _| node["status"]["conditions"][0]["status"] = "Unknown".into(), "NotReady"),
        (|_, profile, _| profile["metadata"]["name"] = "elsewhere".into(), "NoAgent"),
        (|_, profile, _| profile["spec"]["excluded"] = true.into(), "Excluded"),
        (|_, profile, _| profile["status"]["architecture"] = "riscv64".into(), "ArchitectureMismatch"),
        (|_, profile, _| profile["status"]["memoryBandwidthBytesPerSecond"] = (-5).into(), "ProfileIncomplete"),
        (|_, profile, _| profile["status"]["memory"]["availableBytes"] = i64::MIN.into(), "ProfileIncomplete"),
        (|_, profile, _| profile["spec"]["memoryReserve"] = "1Ti".into(), "NoMemoryLeft"),
        (
            |_, _, snapshot| {
                snapshot.heartbeats.insert("a".into(), Timestamp::from_second(NOW - 41).unwrap());
            },
            "ProfileStale",
        ),
        (
            |_, _, snapshot| {
                snapshot.lent.insert("a".into(), Bytes::gib(1));
            },
            "NoMemoryLeft",
        ),
    ];
    for (index, (change, expected)) in table.into_iter().enumerate() {
        assert_eq!(reason_of(change), expected, "row {index}");
    }
}

#[test]
fn a_tainted_node_takes_part_where_the_workers_tolerate_it() {
    let taken = |tolerations: Value| {
        let mut snapshot = testing::snapshot(json!({}));
        let mut node = testing::node("a");
        node["spec"] = json!({ "taints": [
            { "key": "gpu", "value": "yes", "effect": "NoSchedule" }, { "key": "edge", "effect": "NoExecute" },
        ]});
        snapshot.nodes[0] = Arc::new(serde_json::from_value(node).unwrap());
        let spec = json!({ "template": { "worker": { "tolerations": tolerations } } });
        let wish = Wish::check(&testing::deployment(spec)).unwrap();
        candidates(&snapshot, &wish).nodes.iter().any(|node| node.name == "a")
    };
    assert!(!taken(json!([])));
    assert!(!taken(json!([{ "key": "gpu", "operator": "Exists" }])), "the other taint keeps it out");
    assert!(taken(json!([{ "key": "gpu", "value": "yes" }, { "key": "edge", "operator": "Exists" }])));
    assert!(taken(json!([{ "operator": "Exists" }])));
}

/// One image is for both architectures: a plan may have nodes of either.
#[test]
fn both_architectures_take_part_in_one_plan() {
    let mut snapshot = testing::snapshot(json!({}));
    let mut profile = testing::profile("a", 60);
    profile["status"]["architecture"] = "arm64".into();
    snapshot.profiles[0] = Arc::new(serde_json::from_value(profile).unwrap());
    let found = candidates(&snapshot, &testing::wish());
    let names: Vec<_> = found.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let plan = crate::planning::make(&testing::wish(), &testing::card(), &found, Bytes::mib(8));
    assert!(plan.assignments.len() > 1 && plan.assignments.iter().any(|part| part.node == "a"), "{plan:?}");
}

#[test]
fn what_other_deployments_take_is_counted() {
    let mut snapshot = testing::snapshot(json!({}));
    snapshot.lent.insert("b".into(), Bytes::mib(50));
    let found = candidates(&snapshot, &testing::wish());
    let memory: Vec<Bytes> = found.nodes.iter().map(|node| node.memory).collect();
    assert_eq!(memory, [Bytes::mib(60), Bytes::mib(10), Bytes::mib(60)]);
}

#[test]
fn budgets_and_reserves_bound_what_is_lent() {
    let with = |key: &str, value: &str| {
        let mut snapshot = testing::snapshot(json!({}));
        let mut profile = testing::profile("a", 60);
        profile["spec"][key] = value.into();
        snapshot.profiles[0] = Arc::new(serde_json::from_value(profile).unwrap());
        candidates(&snapshot, &testing::wish()).nodes[0].memory
    };
    assert_eq!(with("memoryBudget", "20Mi"), Bytes::mib(20));
    assert_eq!(with("memoryBudget", "900Gi"), Bytes::mib(60));
    assert_eq!(with("memoryReserve", "20Mi"), Bytes::mib(40));
    assert_eq!(with("memoryBudget", "nonsense"), Bytes::mib(60));
}

#[test]
fn a_selector_that_matches_nothing_says_so() {
    let snapshot = testing::snapshot(json!({ "nodes": { "selector": { "matchLabels": { "pool": "z" } } } }));
    let wish = Wish::check(&snapshot.deployment).unwrap();
    assert_eq!(candidates(&snapshot, &wish).shortage().unwrap().reason, "NoNodesMatch");
    let mut alone = testing::snapshot(json!({}));
    alone.profiles.clear();
    assert_eq!(candidates(&alone, &testing::wish()).shortage().unwrap().reason, "NoAgent");
}

/// A plan for quantized weights is made with what the nodes were measured to do with them, not with floats.
#[test]
fn a_format_is_planned_with_its_own_speed() {
    let time = |formats: Value, overrides: Value, format: Format| {
        let mut snapshot = testing::snapshot(json!({}));
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            let mut profile = testing::profile(name, 200);
            profile["status"]["formats"] = formats.clone();
            profile["spec"]["overrides"] = overrides.clone();
            snapshot.profiles[index] = Arc::new(serde_json::from_value(profile).unwrap());
        }
        let card = ModelCard { format, ..testing::card() };
        let found = candidates(&snapshot, &testing::wish());
        let plan = crate::planning::make(&testing::wish(), &card, &found, Bytes::mib(8));
        plan.plan().unwrap().outlook.as_ref().unwrap().prediction.time_per_token.0
    };
    let as_fast = |one: u64, other: u64| one.abs_diff(other) < other / 1000;
    let slow = json!([
        { "format": "Q4_K", "memoryBandwidthBytesPerSecond": 100_000_000, "matrixOperationsPerSecond": 1_000_000_000 },
    ]);
    let plain = time(json!([]), json!({}), Format::Q4K);
    let own = time(slow.clone(), json!({}), Format::Q4K);
    assert!(own > 10 * plain, "{own} ns a token, {plain} with the speed of floats");
    assert!(as_fast(time(slow.clone(), json!({}), Format::Bf16), plain), "other formats are as fast as before");
    let said = json!({
        "memoryBandwidthBytesPerSecond": 10_000_000_000_i64, "matrixOperationsPerSecond": 50_000_000_000_i64,
    });
    assert!(as_fast(time(slow, said, Format::Q4K), plain), "what the administrator says counts for every format");
}

proptest::proptest! {
    #[test]
    fn no_figure_makes_it_panic(
        figures in proptest::array::uniform6(proptest::num::i64::ANY),
        text in ".{0,12}",
    ) {
        let mut snapshot = testing::snapshot(json!({}));
        let mut profile = testing::profile("a", 60);
        let [available, held, bandwidth, operations, disk, link] = figures;
        profile["spec"]["memoryBudget"] = text.clone().into();
        profile["status"]["memory"] = json!({ "availableBytes": available, "limeBytes": held, "totalBytes": held });
        profile["status"]["memoryBandwidthBytesPerSecond"] = bandwidth.into();
        profile["status"]["matrixOperationsPerSecond"] = operations.into();
        profile["status"]["formats"] = json!([
            { "format": text, "memoryBandwidthBytesPerSecond": bandwidth, "matrixOperationsPerSecond": operations },
            { "format": "Q4_K", "memoryBandwidthBytesPerSecond": operations, "matrixOperationsPerSecond": bandwidth },
        ]);
        profile["status"]["disk"] = json!({ "readBytesPerSecond": disk, "freeBytes": disk });
        profile["status"]["links"] = json!([{ "peer": text, "bandwidthBitsPerSecond": link, "roundTripMicroseconds": link }]);
        snapshot.profiles[0] = Arc::new(serde_json::from_value(profile).unwrap());
        let found = candidates(&snapshot, &testing::wish());
        let _ = crate::planning::make(&testing::wish(), &testing::card(), &found, Bytes::mib(8));
    }
}
