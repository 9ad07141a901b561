//! The traces of requests, as W3C Trace Context and OpenTelemetry have them: which request a piece of work belongs to, and how long
//! it took. This crate knows no exporter: who wants spans installs a [`Sink`]. Without one [`active`] is one load of an atomic, and
//! nothing else is done or allocated.
//!
//! ```
//! use lime_trace::TraceContext;
//!
//! let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
//! let context = TraceContext::from_traceparent(sent).unwrap();
//! assert!(context.sampled);
//! assert_eq!(context.to_string(), sent);
//! assert_eq!(TraceContext::from_wire(&context.to_wire()), Some(context));
//! ```

mod context;
mod sink;
mod span;

pub use context::{SpanId, TraceContext, TraceId};
pub use sink::{AlreadyInstalled, Sampling, Sink, active, begin, emit, install};
pub use span::{Span, SpanKind, Value};
