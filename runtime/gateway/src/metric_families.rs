//! Everything on `/metrics`, described: dashboards, alerts and docs are held against it.

use lime_metrics::{Family, described};
use lime_ring::proto::StatusReply;
use prometheus_client::registry::Registry;

use crate::{metrics::Metrics, schedule::Guessed, status::ServedPlan, worker_figures};

/// Everything that a gateway may export: as one would that has answered a request, of a worker that says all there is.
pub fn metric_families() -> Vec<Family> {
    let metrics = Metrics::default();
    metrics.request("/v1/models", 200);
    metrics.guessed(Guessed { held: 1, wrong: 1 });
    let mut registry = Registry::default();
    metrics.register(&mut registry, true, &ServedPlan::default());
    let reply = StatusReply {
        memory: Some(Default::default()),
        stream: Some(Default::default()),
        remote: Some(Default::default()),
        kept: Some(Default::default()),
        page_disk: Some(Default::default()),
        work: Some(Default::default()),
        ..StatusReply::default()
    };
    worker_figures::register(&mut registry, &[reply]);
    described(&lime_metrics::text(&registry))
}
