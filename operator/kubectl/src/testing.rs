//! What tests share.

use lime_api::{LimeDeployment, LimePlan, LimePlanSpec, LimePlanStatus, PlanState};
use lime_plan::{Bytes, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile, Plan};
use serde_json::json;

pub(crate) fn deployment() -> LimeDeployment {
    serde_json::from_value(json!({
        "apiVersion": lime_api::API_VERSION, "kind": "LimeDeployment",
        "metadata": { "name": "m", "namespace": "llm" },
        "spec": { "model": { "source": "file:///models/m" } },
    }))
    .unwrap()
}

/// Two nodes that must read from their disks.
pub(crate) fn runtime_plan() -> Plan {
    let card: ModelCard = serde_json::from_str(include_str!("../../../tests/fixtures/cards/ten-layers.json")).unwrap();
    let node = |name: &str| NodeProfile {
        name: name.into(),
        memory: Bytes::mib(48),
        overhead: Bytes::ZERO,
        memory_bandwidth: 5_000_000_000,
        compact_bandwidth: None,
        throughput: 20_000_000_000,
        disk_bandwidth: Some(200_000_000),
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    };
    let link = Link { bandwidth: 12_500_000, latency: Nanos(1_000_000) };
    let fleet = Fleet::uniform(vec![node("node-1"), node("node-2")], link);
    lime_planner::plan(&card, &fleet, &Goal::sporadic(&card, 512)).unwrap()
}

pub(crate) fn plan(name: &str, state: PlanState) -> LimePlan {
    let spec = LimePlanSpec {
        deployment: "m".into(),
        input_hash: "0".into(),
        feasible: true,
        document: serde_json::to_string(&runtime_plan()).ok(),
        ..LimePlanSpec::default()
    };
    let mut plan = LimePlan::new(name, spec);
    plan.status = Some(LimePlanStatus { state, ..LimePlanStatus::default() });
    plan
}
