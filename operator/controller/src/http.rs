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
    let ages: BTreeMap<String, i64> = context
        .world
        .leases
        .state()
        .into_iter()
        .filter_map(|lease| {
            let spec = lease.spec.as_ref()?;
            let age = now.as_second().saturating_sub(spec.renew_time.as_ref()?.0.as_second());
            Some((spec.holder_identity.clone()?, age.max(0)))
        })
        .collect();
    context.metrics.render(context.leadership.holds(), &ages)
}
