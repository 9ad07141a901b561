//! Health and metrics over HTTP.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use k8s_openapi::jiff::Timestamp;

use kube::ResourceExt as _;
use lime_api::LimeDeployment;

use crate::{context::Context, metrics::Service};

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
    let service = |deployment: &LimeDeployment| {
        let mut conditions = deployment.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        Service { wanted: !deployment.spec.asleep(), ready }
    };
    let deployments = context.world.deployments.state().into_iter();
    let deployments =
        deployments.map(|it| ((it.namespace().unwrap_or_default(), it.name_any()), service(&it))).collect();
    context.metrics.render(context.leadership.holds(), &ages, &deployments)
}
