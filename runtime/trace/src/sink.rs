//! Where spans go: one place for a process, as with its log.

use std::sync::OnceLock;

use thiserror::Error;

use crate::{context, context::TraceContext, span::Span};

/// Takes spans.
pub trait Sink: Send + Sync {
    /// Takes one, quickly: whoever ends a span has other things to do.
    fn take(&self, span: Span);
}

/// Which requests without a context of their client's are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling(f64);

impl Sampling {
    /// A share of them from 0 to 1.
    pub fn ratio(share: f64) -> Self {
        Self(if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) })
    }
}

/// There is a sink already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the traces of this process go somewhere already")]
pub struct AlreadyInstalled;

static INSTALLED: OnceLock<(Box<dyn Sink>, Sampling)> = OnceLock::new();

/// Sends every span of this process to `sink` from now on.
///
/// # Errors
/// When there is one already.
pub fn install(sink: impl Sink + 'static, sampling: Sampling) -> Result<(), AlreadyInstalled> {
    INSTALLED.set((Box::new(sink), sampling)).map_err(|_| AlreadyInstalled)
}

/// Whether anybody takes spans.
pub fn active() -> bool {
    INSTALLED.get().is_some()
}

/// The context of a request that begins, and the client's that it is part of: `None` where nobody wants to see it. A client that sent
/// a context has decided that already.
pub fn begin(traceparent: Option<&str>) -> Option<(TraceContext, Option<TraceContext>)> {
    let (_, sampling) = INSTALLED.get()?;
    match traceparent.and_then(TraceContext::from_traceparent) {
        Some(client) => client.sampled.then(|| (client.child(), Some(client))),
        None => {
            let context = TraceContext::root(true);
            (context::share(&context.trace) < sampling.0).then_some((context, None))
        }
    }
}

/// Hands a span on.
pub fn emit(span: Span) {
    if let Some((sink, _)) = INSTALLED.get() {
        sink.take(span);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Sender, channel},
        time::SystemTime,
    };

    use super::*;
    use crate::span::SpanKind;

    struct Kept(Sender<Span>);

    impl Sink for Kept {
        fn take(&self, span: Span) {
            let _ = self.0.send(span);
        }
    }

    /// One test: a process has one sink.
    #[test]
    fn clients_decide_and_others_are_sampled() {
        let asked = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(!active() && begin(Some(asked)).is_none(), "nothing happens without a sink");
        let (sender, spans) = channel();
        install(Kept(sender.clone()), Sampling::ratio(0.0)).unwrap();
        assert_eq!(install(Kept(sender), Sampling::ratio(1.0)), Err(AlreadyInstalled));
        let (context, client) = begin(Some(asked)).unwrap();
        assert_eq!(Some(context.trace), client.map(|client| client.trace));
        assert_ne!(Some(context.span), client.map(|client| client.span));
        assert!(begin(Some(&asked.replace("-01", "-00"))).is_none(), "the client does not want it");
        assert!(begin(None).is_none() && begin(Some("nonsense")).is_none(), "no share of the others");
        let now = SystemTime::UNIX_EPOCH;
        let span = Span {
            context,
            parent: None,
            kind: SpanKind::Internal,
            name: "x",
            start: now,
            end: now,
            attributes: vec![],
            failure: None,
        };
        emit(span.clone());
        assert_eq!(spans.recv().unwrap(), span);
    }
}
