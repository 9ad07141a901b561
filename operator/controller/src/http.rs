//! Health and metrics over HTTP.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use k8s_openapi::jiff::Timestamp;

use crate::context::Context;

/// What is served: `/healthz`, `/readyz` and `/metrics`.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

/// Ready once every kind has been listed: a replica without the Lease is ready too, it stands by.
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, &'static str) {
    if context.is_filled() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the watches are not filled yet: are the CRDs installed?\n")
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> String {
    let now = Timestamp::now();
    let age = |last: Timestamp| now.as_second().saturating_sub(last.as_second()).max(0);
    let ages: BTreeMap<String, i64> =
        context.world.heartbeats().into_iter().map(|(node, last)| (node, age(last))).collect();
    context.metrics.render(context.leadership.holds(), &ages)
}
