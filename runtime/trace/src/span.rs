//! A piece of work that is done.

use std::time::SystemTime;

use crate::context::{SpanId, TraceContext};

/// A piece of work that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its name and its trace's.
    pub context: TraceContext,
    /// Whose part it is; `None`: the first of its trace.
    pub parent: Option<SpanId>,
    /// On whose behalf it was done.
    pub kind: SpanKind,
    /// What was done: few names, whatever clients ask for.
    pub name: &'static str,
    /// When it began ...
    pub start: SystemTime,
    /// ... and ended.
    pub end: SystemTime,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// On whose behalf something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A client's, who waits for it.
    Server,
    /// A part of such work.
    Internal,
}

/// What is known of a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count, a size.
    Number(i64),
    /// A name.
    Text(String),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
