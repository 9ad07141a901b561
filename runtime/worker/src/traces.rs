//! The part of this device in requests that are traced: a span for each batch that it handles, in each of their traces.

use std::time::SystemTime;

use lime_ring::proto::Rows;
use lime_trace::{Span, SpanKind, TraceContext, Value};

use crate::{command::Batch, session::Session};

/// A batch being handled for requests that are traced.
pub(crate) struct Traced {
    parents: Vec<TraceContext>,
    begin: SystemTime,
    pass: u64,
    segment: u32,
    rows: u32,
}

impl Traced {
    /// `None` where nobody wants to know: then nothing is allocated, and no clock is read.
    pub(crate) fn of(batch: &Batch) -> Option<Self> {
        if !lime_trace::active() || batch.rows.iter().all(|rows| rows.trace.is_empty()) {
            return None;
        }
        let (pass, segment, rows) = (batch.pass, batch.segment, batch.row_count);
        let parents = parents(&batch.rows);
        (!parents.is_empty()).then(|| Self { parents, begin: SystemTime::now(), pass, segment, rows })
    }

    /// The batch is handed on.
    pub(crate) fn end(self, session: &Session) {
        let end = SystemTime::now();
        for parent in self.parents {
            lime_trace::emit(Span {
                context: parent.child(),
                parent: Some(parent.span),
                kind: SpanKind::Internal,
                name: "pass",
                start: self.begin,
                end,
                attributes: vec![
                    ("lime.device", session.name().into()),
                    ("lime.epoch", Value::from(session.epoch)),
                    ("lime.pass", self.pass.into()),
                    ("lime.segment", u64::from(self.segment).into()),
                    ("lime.rows", u64::from(self.rows).into()),
                ],
                failure: None,
            });
        }
    }
}

/// The requests whose rows a batch carries, each once: one that asks for several answers has several rows.
fn parents(rows: &[Rows]) -> Vec<TraceContext> {
    let mut parents: Vec<TraceContext> = Vec::new();
    for context in rows.iter().filter_map(|rows| TraceContext::from_wire(&rows.trace)) {
        if !parents.contains(&context) {
            parents.push(context);
        }
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_of_a_batch_once() {
        let (one, other) = (TraceContext::root(true), TraceContext::root(true));
        let rows = |trace: &[u8]| Rows { trace: trace.to_vec(), ..Rows::default() };
        let batch = [rows(&one.to_wire()), rows(&[]), rows(&other.to_wire()), rows(&one.to_wire()), rows(&[1; 7])];
        assert_eq!(parents(&batch), [one, other]);
        assert!(parents(&batch[1..2]).is_empty());
    }
}
