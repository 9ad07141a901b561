//! What the status shows beside conditions: where clients find the model, and how fast it is.

use lime_api::{EndpointStatus, LimeDeploymentStatus, LimePlan, PerformanceFigures, PerformanceStatus};

use crate::{build, planning, snapshot::Snapshot, wish::Wish};

/// Where clients find the model.
pub(super) fn endpoint(wish: &Wish) -> EndpointStatus {
    let scheme = build::api_scheme(wish);
    let url = format!("{scheme}://{}.{}.svc:{}/v1", wish.name, wish.namespace, wish.spec.endpoint.port);
    EndpointStatus { url: Some(url) }
}

/// The speed that was predicted, and that clients get.
pub(super) fn performance(plan: &LimePlan, before: &LimeDeploymentStatus, snapshot: &Snapshot) -> PerformanceStatus {
    let predicted = plan.spec.prediction.as_ref().map(|prediction| PerformanceFigures {
        time_to_first_token_milliseconds: Some(prediction.time_to_first_token_milliseconds),
        ..per_token(prediction.time_per_token_microseconds)
    });
    let earlier = before.performance.as_ref().and_then(|performance| performance.measured.clone()).unwrap_or_default();
    let ring = snapshot.ring.as_ref();
    let before = earlier.time_per_token_microseconds;
    let each_token = moved(before, ring.and_then(|ring| ring.time_per_token_microseconds));
    let measured = PerformanceFigures {
        time_to_first_token_milliseconds: moved(
            earlier.time_to_first_token_milliseconds,
            ring.and_then(|ring| ring.time_to_first_token_microseconds).map(millis),
        ),
        ..each_token.map(per_token).unwrap_or_default()
    };
    PerformanceStatus {
        predicted,
        measured: Some(measured).filter(|figures| *figures != PerformanceFigures::default()),
    }
}

/// Time per token in every form.
fn per_token(micros: i64) -> PerformanceFigures {
    PerformanceFigures {
        time_per_token_milliseconds: Some(millis(micros)),
        time_per_token_microseconds: Some(micros),
        time_per_token: Some(planning::shown(micros)),
        ..PerformanceFigures::default()
    }
}

/// Rounded up, as predictions are.
fn millis(micros: i64) -> i32 {
    i32::try_from(micros.max(0).saturating_add(999) / 1000).unwrap_or(i32::MAX)
}

/// A figure is shown anew when it moved by a tenth: status writes are not for noise.
fn moved<T: Copy + Into<i64>>(before: Option<T>, now: Option<T>) -> Option<T> {
    match (before, now) {
        (Some(before), Some(now)) if (now.into() - before.into()).saturating_abs() < before.into() / 10 => Some(before),
        (before, now) => now.or(before),
    }
}
