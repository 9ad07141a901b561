//! What tests share: a wish, a model, nodes and the moment in which they are looked at.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use lime_api::LimeDeployment;
use lime_plan::{BriefCard, Inspection, ModelCard};
use serde_json::{Value, json};

use crate::{
    settings::{Addressing, PodUser, Settings, WeightStore},
    snapshot::{SecretKey, Snapshot, StoredCard},
    wish::Wish,
};

/// Seconds since the epoch at which tests look.
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) fn deployment(spec: Value) -> LimeDeployment {
    let mut whole = json!({ "model": { "source": "file:///models/m" }, "transport": { "security": "Plaintext" } });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": lime_api::API_VERSION, "kind": "LimeDeployment",
        "metadata": { "name": "m", "namespace": "llm", "uid": "uid-m", "generation": 1 }, "spec": whole,
    }))
    .unwrap()
}

pub(crate) fn wish() -> Wish {
    Wish::check(&deployment(json!({}))).unwrap()
}

/// 100 MiB of layers.
pub(crate) fn card() -> ModelCard {
    serde_json::from_str(include_str!("../../../tests/fixtures/cards/ten-layers.json")).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        namespace: "lime-system".into(),
        identity: "test".into(),
        image: "lime:test".into(),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: Vec::new(),
        pod_user: PodUser::Number(65_532),
        listen: ([127, 0, 0, 1], 0).into(),
        weight_store: WeightStore::Claim,
        weight_store_class: None,
        weight_store_path: "/var/lib/lime".into(),
        hub_endpoint: None,
        addressing: Addressing::Dns,
        worker_overhead_mib: 8,
        ring_tls: false,
        otlp_endpoint: None,
        trace_ratio: None,
        watch_namespaces: Vec::new(),
        no_leader_election: true,
    }
}

/// A sound profile with `mebibytes` to lend.
pub(crate) fn profile(name: &str, mebibytes: i64) -> Value {
    json!({
        "apiVersion": lime_api::API_VERSION, "kind": "LimeNodeProfile", "metadata": { "name": name }, "spec": {},
        "status": {
            "architecture": "amd64",
            "memory": { "totalBytes": 1_i64 << 40, "availableBytes": mebibytes << 20 },
            "memoryBandwidthBytesPerSecond": 10_000_000_000_i64,
            "matrixOperationsPerSecond": 50_000_000_000_i64,
            "disk": { "readBytesPerSecond": 500_000_000, "freeBytes": 1_i64 << 40 },
        },
    })
}

pub(crate) fn node(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "pool": "a", "zone": "a" } },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// Three nodes of 60 MiB each: together they hold the model, none alone does.
pub(crate) fn snapshot(spec: Value) -> Snapshot {
    let names = ["a", "b", "c"];
    let deployment = deployment(spec);
    let digest = Wish::check(&deployment).map(|wish| wish.source_digest()).unwrap_or_default();
    let text = Inspection::Card(Box::new(BriefCard::new(&card(), None))).to_line();
    Snapshot {
        now: Timestamp::from_second(NOW).unwrap(),
        deployment: Arc::new(deployment),
        plans: Vec::new(),
        pods: Vec::new(),
        jobs: Vec::new(),
        card: Some(StoredCard { source_digest: digest, text }),
        token: SecretKey::NotNamed,
        api_keys: SecretKey::NotNamed,
        api_certificate: SecretKey::NotNamed,
        nodes: names.iter().map(|name| Arc::new(serde_json::from_value(node(name)).unwrap())).collect(),
        profiles: names.iter().map(|name| Arc::new(serde_json::from_value(profile(name, 60)).unwrap())).collect(),
        heartbeats: names.iter().map(|name| ((*name).to_owned(), Timestamp::from_second(NOW - 5).unwrap())).collect(),
        lent: BTreeMap::new(),
        held: BTreeMap::new(),
        requested: BTreeMap::new(),
        refused: BTreeMap::new(),
        mishaps: BTreeMap::new(),
        ring: None,
        leaving: None,
        since: BTreeMap::new(),
        tried: std::collections::BTreeSet::new(),
        crowd: 1,
        cpu_limits: false,
    }
}
