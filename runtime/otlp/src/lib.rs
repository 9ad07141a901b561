//! Sends the traces of requests to an OpenTelemetry collector, by OTLP over gRPC: batched, on a thread of its own, and dropped where
//! the collector cannot keep up. Serving never waits for it.
//!
//! The spans are made by [`lime_trace`], which knows when work began and ended on whichever thread it was done; tracing's own spans
//! follow a task, and a pass is many requests' work on one thread.
//!
//! ```
//! use lime_otlp::{Settings, StartError, start};
//!
//! let settings = Settings { endpoint: "collector:4317".into(), ratio: 0.1, service: "lime-gateway", instance: "a".into() };
//! let refused = start(settings).unwrap_err();
//! assert_eq!(refused.to_string(), r#""collector:4317" is no collector: write http://HOST:4317 or https://HOST:4317"#);
//! ```

use std::time::Duration;

use lime_trace::{Sampling, Sink, Span, Value};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor},
};
use thiserror::Error;

/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where traces go, and of how many requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The collector, as `http://HOST:4317` or `https://HOST:4317`.
    pub endpoint: String,
    /// The share of the requests without a `traceparent` of their own that are traced.
    pub ratio: f64,
    /// What this process is, such as `lime-gateway`.
    pub service: &'static str,
    /// Which of them.
    pub instance: String,
}

/// Traces cannot be sent.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address that is none.
    #[error("{0:?} is no collector: write http://HOST:4317 or https://HOST:4317")]
    Endpoint(String),
    /// The exporter cannot be made.
    #[error("traces cannot be sent: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// There is an exporter already.
    #[error(transparent)]
    Already(#[from] lime_trace::AlreadyInstalled),
}

/// Ends with what is still to be sent.
#[derive(Clone, Debug)]
pub struct Exporting(std::sync::Arc<BatchSpanProcessor>);

impl Exporting {
    /// Sends what is there, within a few seconds.
    pub fn finish(&self) {
        // A collector that is away has lost its traces; there is nobody left to tell.
        let _ = self.0.force_flush();
    }
}

/// Sends every span of this process from now on. Within a tokio runtime, which carries the connection.
///
/// # Errors
/// When the address is none, or traces go somewhere already. A collector that is away is none: it may come.
pub fn start(settings: Settings) -> Result<Exporting, StartError> {
    let Settings { endpoint, ratio, service, instance } = settings;
    if !["http://", "https://"].iter().any(|scheme| endpoint.len() > scheme.len() && endpoint.starts_with(scheme)) {
        return Err(StartError::Endpoint(endpoint));
    }
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(PATIENCE).build()?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.instance.id", instance))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    processor.set_resource(&resource);
    let processor = std::sync::Arc::new(processor);
    lime_trace::install(Batches { processor: processor.clone() }, Sampling::ratio(ratio))?;
    Ok(Exporting(processor))
}

struct Batches {
    processor: std::sync::Arc<BatchSpanProcessor>,
}

impl Sink for Batches {
    fn take(&self, span: Span) {
        self.processor.on_end(data(span));
    }
}

/// A span as OpenTelemetry has it.
fn data(span: Span) -> SpanData {
    let flags = if span.context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let trace = TraceId::from_bytes(span.context.trace.0);
    let id = SpanId::from_bytes(span.context.span.0);
    let attributes = span.attributes.into_iter().map(|(name, value)| match value {
        Value::Number(number) => KeyValue::new(name, number),
        Value::Text(text) => KeyValue::new(name, text),
    });
    SpanData {
        span_context: SpanContext::new(trace, id, flags, false, TraceState::default()),
        parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.0)),
        parent_span_is_remote: span.kind == lime_trace::SpanKind::Server,
        span_kind: match span.kind {
            lime_trace::SpanKind::Server => SpanKind::Server,
            lime_trace::SpanKind::Internal => SpanKind::Internal,
        },
        name: span.name.into(),
        start_time: span.start,
        end_time: span.end,
        attributes: attributes.collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("lime").build(),
    }
}
