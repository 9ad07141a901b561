//! What the status shows beside conditions: where clients find the model, and how fast it is.

use lime_api::{EndpointStatus, LimeDeploymentStatus, LimePlan, PerformanceFigures, PerformanceStatus};

use crate::{snapshot::Snapshot, wish::Wish};

/// Where clients find the model.
pub(super) fn endpoint(wish: &Wish) -> EndpointStatus {
    let url = format!("http://{}.{}.svc:{}/v1", wish.name, wish.namespace, wish.spec.endpoint.port);
    EndpointStatus { url: Some(url) }
}

/// The speed that was predicted, and that clients get.
pub(super) fn performance(plan: &LimePlan, before: &LimeDeploymentStatus, snapshot: &Snapshot) -> PerformanceStatus {
    let predicted = plan.spec.prediction.as_ref().map(|prediction| PerformanceFigures {
        time_to_first_token_milliseconds: Some(prediction.time_to_first_token_milliseconds),
        time_per_token_milliseconds: Some(prediction.time_per_token_milliseconds),
    });
    let earlier = before.performance.as_ref().and_then(|performance| performance.measured.clone()).unwrap_or_default();
    let ring = snapshot.ring.as_ref();
    let measured = PerformanceFigures {
        time_to_first_token_milliseconds: moved(
            earlier.time_to_first_token_milliseconds,
            ring.and_then(|ring| ring.time_to_first_token_microseconds).map(millis),
        ),
        time_per_token_milliseconds: moved(
            earlier.time_per_token_milliseconds,
            ring.and_then(|ring| ring.time_per_token_microseconds).map(millis),
        ),
    };
    PerformanceStatus {
        predicted,
        measured: Some(measured).filter(|figures| *figures != PerformanceFigures::default()),
    }
}

/// Rounded up, as predictions are.
fn millis(micros: i64) -> i32 {
    i32::try_from(micros.max(0).saturating_add(999) / 1000).unwrap_or(i32::MAX)
}

/// A figure is shown anew when it moved by a tenth: status writes are not for noise.
fn moved(before: Option<i32>, now: Option<i32>) -> Option<i32> {
    match (before, now) {
        (Some(before), Some(now)) if (i64::from(now) - i64::from(before)).abs() * 10 < i64::from(before) => {
            Some(before)
        }
        (before, now) => now.or(before),
    }
}
