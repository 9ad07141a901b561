//! Health and metrics over HTTP.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use kube::ResourceExt as _;
use lime_api::LimeDeployment;
use prometheus_client::registry::Registry;

use crate::{context::Context, fleet_figures, metrics::Service};

/// What is served: `/healthz`, `/readyz` and `/metrics`.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

/// Ready once every kind has been listed, and while the kinds of LIME are there: a replica without the Lease is ready too, it stands by.
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    match context.world.missing.message() {
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
        None if context.is_filled() => (StatusCode::OK, "ok\n".to_owned()),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the watches are not filled yet\n".to_owned()),
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> ([(HeaderName, &'static str); 1], String) {
    // Whoever is silent is told of, what was said of it before we began notwithstanding.
    let silences = context.world.heard.silences(Instant::now(), |_| false).into_iter();
    let seconds = |silence: std::time::Duration| i64::try_from(silence.as_secs()).unwrap_or(i64::MAX);
    let ages: BTreeMap<String, i64> = silences.map(|(node, silence)| (node, seconds(silence))).collect();
    let service = |deployment: &LimeDeployment| {
        let mut conditions = deployment.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        Service { wanted: !deployment.spec.asleep(), ready }
    };
    let deployments = context.world.deployments.state().into_iter();
    let deployments =
        deployments.map(|it| ((it.namespace().unwrap_or_default(), it.name_any()), service(&it))).collect();
    let mut registry = Registry::default();
    context.metrics.register(&mut registry, context.leadership.holds(), &ages, &deployments);
    fleet_figures::register(&mut registry, &context.world.profiles.state(), &context.world.deployments.state());
    ([(CONTENT_TYPE, lime_metrics::CONTENT_TYPE)], lime_metrics::text(&registry))
}
