//! Everything but completions: models, health, readiness, figures.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::{
    SharedApp,
    error::{ApiError, retry_after},
};
use crate::{
    retry_after,
    ring::{RingCause, WeightsFault},
    status::{Phase, RingState, percent},
    worker_figures,
};

/// `GET /v1/models`.
pub(super) async fn models(State(app): State<SharedApp>) -> Json<Value> {
    Json(json!({"object": "list", "data": [app.model_object()]}))
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(State(app): State<SharedApp>, Path(id): Path<String>) -> Response {
    if id == app.served_name {
        Json(app.model_object()).into_response()
    } else {
        ApiError::unknown_model(&id, &app.served_name).into_response()
    }
}

/// `GET /health`: the process lives, and serves or may soon.
pub(super) async fn health(app: State<SharedApp>) -> Response {
    let state = app.status.view();
    if state.phase == Phase::Unavailable && !app.pass_loop_ended() {
        let body = Json(json!({"status": state.phase.name(), "reason": state.trouble}));
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    live(app).await
}

/// `GET /live`: the process lives. To start it anew would help nobody.
pub(super) async fn live(State(app): State<SharedApp>) -> Response {
    if app.pass_loop_ended() {
        let body = Json(json!({"status": "failed", "reason": "the pass loop has ended: restart this process"}));
        return (StatusCode::INTERNAL_SERVER_ERROR, body).into_response();
    }
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /ready`: whether the ring serves, and by which plan.
pub(super) async fn ready(State(app): State<SharedApp>) -> Response {
    let state = app.status.view();
    let devices: Vec<Value> = state.devices.iter().map(|(device, progress)| {
        json!({"device": device, "loaded_bytes": progress.0, "total_bytes": progress.1, "percent": percent(*progress)})
    }).collect();
    let plan = json!({"name": state.plan.name, "generation": state.plan.generation, "digest": state.plan.digest});
    let version = json!({"build": env!("CARGO_PKG_VERSION"), "wire": lime_ring::WIRE});
    let mut body = json!({"version": version, "status": state.phase.name(), "epoch": state.epoch, "plan": plan, "devices": devices});
    body["requests"] = app.metrics.under_way().into();
    if state.phase == Phase::Ready {
        return Json(body).into_response();
    }
    body["reason"] = state.trouble.clone().into();
    body["cause"] = state.cause.as_ref().map_or(Value::Null, cause);
    (StatusCode::SERVICE_UNAVAILABLE, retry_after(loading_wait(&state, app.age())), Json(body)).into_response()
}

/// What keeps the ring from serving, for machines.
fn cause(cause: &RingCause) -> Value {
    match cause {
        RingCause::Link { from, to } => json!({"kind": "link", "from": from, "to": to}),
        RingCause::Version { device } => json!({"kind": "version", "device": device}),
        RingCause::Weights { device, fault } => {
            let what = match fault {
                WeightsFault::DiskFull => "diskFull",
                WeightsFault::Damaged => "damaged",
                WeightsFault::Source => "source",
            };
            json!({"kind": "weights", "device": device, "what": what})
        }
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<SharedApp>) -> Response {
    let plan = app.status.plan();
    let mut registry = Registry::default();
    app.metrics.register(&mut registry, app.status.phase() == Phase::Ready, &plan);
    worker_figures::register(&mut registry, &worker_figures::ask(&app.transport, plan.workers).await);
    ([(header::CONTENT_TYPE, lime_metrics::CONTENT_TYPE)], lime_metrics::text(&registry)).into_response()
}

/// Why there is no answer yet.
pub(super) fn loading_message(state: &RingState) -> String {
    let progress = |(device, loaded): (&String, &(u64, u64))| format!("{device} {} %", percent(*loaded));
    let devices: Vec<String> = state.devices.iter().map(progress).collect();
    let mut message = format!("The model is loading: {}.", devices.join(", "));
    if let Some(trouble) = &state.trouble {
        message.push_str(" Last trouble: ");
        message.push_str(trouble);
    }
    message
}

/// When to ask again: by what is loaded after the gateway's `age`.
pub(super) fn loading_wait(state: &RingState, age: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_secs(30);
    let (loaded, total) = state
        .devices
        .values()
        .fold((0, 0), |sum: (u64, u64), device| (sum.0.saturating_add(device.0), sum.1.saturating_add(device.1)));
    if state.phase != Phase::Loading || loaded == 0 {
        return retry_after::a_little();
    }
    let left = total.saturating_sub(loaded) as f64 / loaded as f64;
    retry_after::a_little() + Duration::try_from_secs_f64(age.as_secs_f64() * left).unwrap_or(LONGEST).min(LONGEST)
}
