//! Names of traces and spans, as headers and as the ring carries them.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
};

/// Names a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Names a span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// Bytes of a context on the wire of the ring.
const WIRE: usize = 24;

/// A span that others are children of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether anybody wants to see it.
    pub sampled: bool,
}

impl TraceContext {
    /// The first span of a trace of its own.
    pub fn root(sampled: bool) -> Self {
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&random());
        trace[8..].copy_from_slice(&random());
        Self { trace: TraceId(trace), span: SpanId(random()), sampled }
    }

    /// Another span of the same trace.
    pub fn child(&self) -> Self {
        Self { span: SpanId(random()), ..*self }
    }

    /// Reads the header `traceparent`. What breaks a rule of the standard is no context; versions to come may say more after it.
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = hex(version)?;
        let ends = parts.next().is_none();
        if version == 0xff || (version == 0 && !ends) {
            return None;
        }
        let (trace, span): ([u8; 16], [u8; 8]) = (hex(trace)?, hex(span)?);
        let [flags] = hex(flags)?;
        let named = trace != [0; 16] && span != [0; 8];
        named.then_some(Self { trace: TraceId(trace), span: SpanId(span), sampled: flags & 1 == 1 })
    }

    /// As the ring carries it: only contexts that are sampled travel there.
    pub fn to_wire(&self) -> [u8; WIRE] {
        let mut wire = [0; WIRE];
        wire[..16].copy_from_slice(&self.trace.0);
        wire[16..].copy_from_slice(&self.span.0);
        wire
    }

    /// Reads what [`Self::to_wire`] wrote; anything else is no context.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let wire: &[u8; WIRE] = wire.try_into().ok()?;
        let (trace, span) = wire.split_at(16);
        let (trace, span): ([u8; 16], [u8; 8]) = (trace.try_into().ok()?, span.try_into().ok()?);
        let named = trace != [0; 16] && span != [0; 8];
        named.then_some(Self { trace: TraceId(trace), span: SpanId(span), sampled: true })
    }
}

impl fmt::Display for TraceContext {
    /// The header `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

/// Lower-case hexadecimal digits, as the standard wants them.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || digits.iter().any(|digit| !matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let value = |digit: u8| if digit < b'a' { digit - b'0' } else { digit - b'a' + 10 };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0]) << 4 | value(pair[1]);
    }
    Some(bytes)
}

/// Eight bytes that nobody else has: names need be unlike, not secret.
fn random() -> [u8; 8] {
    // A new state has new keys; 0 is no name.
    RandomState::new().hash_one(0_u8).max(1).to_be_bytes()
}

/// A number between 0 and 1 that belongs to a trace: every process that asks makes the same of it.
pub(crate) fn share(trace: &TraceId) -> f64 {
    let [_, _, _, _, _, _, _, _, last @ ..] = trace.0;
    (u64::from_be_bytes(last) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert!(!TraceContext::from_traceparent(good).unwrap().sampled);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
        assert!(TraceContext::from_traceparent(later).unwrap().sampled);
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::from_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn contexts_are_unlike_and_children_stay_in_their_trace() {
        let (one, other) = (TraceContext::root(true), TraceContext::root(true));
        assert_ne!(one.trace, other.trace);
        let child = one.child();
        assert_eq!(child.trace, one.trace);
        assert_ne!(child.span, one.span);
        assert_eq!(TraceContext::from_traceparent(&one.to_string()), Some(one));
    }

    #[test]
    fn what_the_wire_brings_is_not_believed() {
        for wire in [&[][..], &[1; 23], &[1; 25], &[0; 24]] {
            assert_eq!(TraceContext::from_wire(wire), None);
        }
    }
}
