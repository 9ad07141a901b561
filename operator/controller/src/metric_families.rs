//! Everything on the operator's `/metrics`, described: dashboards, alerts and docs are held against it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lime_api::{LimeDeployment, LimeNodeProfile};
use lime_metrics::{Family, described};
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::{
    fleet_figures,
    metrics::{Metrics, Service},
};

/// Everything that an operator may export: as one would that has seen each thing once.
///
/// # Errors
/// When the fleet that is described is none that the kinds of LIME know.
pub fn metric_families() -> Result<Vec<Family>, serde_json::Error> {
    let metrics = Metrics::default();
    metrics.reconciled(Duration::ZERO);
    metrics.wrote("status");
    metrics.failed("api");
    let (namespace, name) = ("llm", "m");
    let services = BTreeMap::from([((namespace.to_owned(), name.to_owned()), Service::default())]);
    let mut registry = Registry::default();
    metrics.register(&mut registry, true, &BTreeMap::from([("a".to_owned(), 0)]), &services);
    let profile: LimeNodeProfile = serde_json::from_value(json!({
        "metadata": { "name": "a" },
        "spec": {},
        "status": {
            "memory": { "totalBytes": 1, "availableBytes": 1, "lowWaterBytes": 1 },
            "disk": { "readBytesPerSecond": 1, "freeBytes": 1 },
            "memoryBandwidthBytesPerSecond": 1,
            "links": [{ "peer": "b", "bandwidthBitsPerSecond": 1_000_000_000, "roundTripMicroseconds": 400 }],
        },
    }))?;
    let shard = |node: &str| json!({ "node": node, "state": "Ready", "restarts": 0, "weightsPercent": 100 });
    let speed = json!({ "timePerTokenMilliseconds": 1, "timeToFirstTokenMilliseconds": 1 });
    let deployment: LimeDeployment = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "model": { "source": "file:///models/m" } },
        "status": { "shards": [shard("a"), shard("b")], "performance": { "predicted": speed } },
    }))?;
    fleet_figures::register(&mut registry, &[Arc::new(profile)], &[Arc::new(deployment)]);
    Ok(described(&lime_metrics::text(&registry)))
}
