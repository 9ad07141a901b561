//! A request that is traced: one span for all of it, with a part until its first token and a part for the rest. The ring's devices add
//! theirs. Of a request that nobody traces there is nothing here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use axum::http::{HeaderMap, StatusCode};
use lime_trace::{Span, SpanKind, TraceContext, Value};

/// A request under way. Whoever lets go of it last ends it.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    context: TraceContext,
    client: Option<TraceContext>,
    name: &'static str,
    model: String,
    start: SystemTime,
    status: AtomicU16,
    prompt_tokens: AtomicU64,
    answer_tokens: AtomicU64,
}

impl RequestTrace {
    /// A request that begins, if anybody wants to see it: its client by the header `traceparent`, or the sampling of this process.
    pub(crate) fn begin(headers: &HeaderMap, name: &'static str, model: &str) -> Option<Arc<Self>> {
        if !lime_trace::active() {
            return None;
        }
        let header = headers.get("traceparent").and_then(|header| header.to_str().ok());
        let (context, client) = lime_trace::begin(header)?;
        Some(Arc::new(Self {
            context,
            client,
            name,
            model: model.to_owned(),
            start: SystemTime::now(),
            status: AtomicU16::new(0),
            prompt_tokens: AtomicU64::new(0),
            answer_tokens: AtomicU64::new(0),
        }))
    }

    /// What the ring's passes for it carry.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// The answer's status line is known.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// A prompt was taken up.
    pub(crate) fn prompt(&self, tokens: usize) {
        self.prompt_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    fn part(&self, name: &'static str, times: (SystemTime, SystemTime), attributes: Vec<(&'static str, Value)>) {
        lime_trace::emit(Span {
            context: self.context.child(),
            parent: Some(self.context.span),
            kind: SpanKind::Internal,
            name,
            start: times.0,
            end: times.1,
            attributes,
            failure: None,
        });
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        let status = self.status.load(Ordering::Relaxed);
        let number = |figure: &AtomicU64| Value::from(figure.load(Ordering::Relaxed));
        let attributes = vec![
            ("http.request.method", "POST".into()),
            ("http.route", self.name.into()),
            ("http.response.status_code", u64::from(status).into()),
            ("gen_ai.request.model", self.model.as_str().into()),
            ("gen_ai.usage.input_tokens", number(&self.prompt_tokens)),
            ("gen_ai.usage.output_tokens", number(&self.answer_tokens)),
        ];
        lime_trace::emit(Span {
            context: self.context,
            parent: self.client.map(|client| client.span),
            kind: SpanKind::Server,
            name: self.name,
            start: self.start,
            end: SystemTime::now(),
            attributes,
            // A client that left has no status; a refusal is the client's affair.
            failure: (status >= 500).then(|| format!("answered with {status}")),
        });
    }
}

/// One answer of a traced request.
#[derive(Debug)]
pub(crate) struct AnswerTrace {
    request: Arc<RequestTrace>,
    choice: usize,
    admitted: SystemTime,
    first: Option<SystemTime>,
}

impl AnswerTrace {
    /// An answer that is waited for from now on.
    pub(crate) fn begin(request: Arc<RequestTrace>, choice: usize) -> Self {
        Self { request, choice, admitted: SystemTime::now(), first: None }
    }

    /// Its first token is here.
    pub(crate) fn first_token(&mut self) {
        let now = SystemTime::now();
        let choice = ("lime.choice", Value::from(self.choice as u64));
        self.request.part("until the first token", (self.admitted, now), vec![choice]);
        self.first = Some(now);
    }

    /// It has come to its end, or nobody wants more of it.
    pub(crate) fn end(self, tokens: u64) {
        self.request.answer_tokens.fetch_add(tokens, Ordering::Relaxed);
        if let Some(first) = self.first {
            let attributes = vec![("lime.choice", Value::from(self.choice as u64)), ("lime.tokens", tokens.into())];
            self.request.part("the other tokens", (first, SystemTime::now()), attributes);
        }
    }
}
