//! Traces of requests: off, unless a collector is named.

use clap::Args;
use lime_otlp::{Exporting, Settings};

/// The variable by which OpenTelemetry's own tools name a collector.
pub(crate) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Where traces of requests go.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TraceArgs {
    /// Send traces of requests to this OpenTelemetry collector (OTLP over gRPC), such as `http://127.0.0.1:4317`; default: none
    #[arg(long, value_name = "URL", env = ENDPOINT)]
    pub(crate) otlp_endpoint: Option<String>,

    /// Share of the requests that are traced, 0 to 1; a client that sends `traceparent` decides for its own
    #[arg(long, value_name = "SHARE", env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_parser = share)]
    pub(crate) trace_ratio: f64,
}

impl TraceArgs {
    /// Sends traces from now on, within a runtime; `None` where nobody wants any.
    pub(crate) fn start(&self, service: &'static str, instance: &str) -> anyhow::Result<Option<Exporting>> {
        // Set to nothing is not set, as OpenTelemetry has it.
        let Some(endpoint) = self.otlp_endpoint.clone().filter(|endpoint| !endpoint.trim().is_empty()) else {
            return Ok(None);
        };
        tracing::info!(endpoint, ratio = self.trace_ratio, "requests are traced");
        let instance = instance.to_owned();
        Ok(Some(lime_otlp::start(Settings { endpoint, ratio: self.trace_ratio, service, instance })?))
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a number from 0 to 1, such as 0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_from_nothing_to_all() {
        assert_eq!(share("0.25"), Ok(0.25));
        for wrong in ["-0.1", "1.5", "NaN", "half", ""] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
