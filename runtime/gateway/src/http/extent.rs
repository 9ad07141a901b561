//! How long a request may be. All of it follows from the context, so that little work is done for what cannot fit.

use serde_json::Value;

use super::{error::ApiError, json_text::mended};
use crate::{options::Options, status::ServedPlan};

/// Bytes of text for each token of the context. Texts have three to five; one with more than this is a heap of spaces.
const BYTES_PER_TOKEN: usize = 16;
/// A text may have so many bytes in any case: short contexts are no reason to look closely.
const ANY_TEXT: usize = 64 << 10;
/// Bytes that one byte of text may take in JSON (`\u0041`).
const ESCAPED: usize = 6;
/// Bytes of a body beside its longest text: fields, other messages and prompts.
const BESIDE: usize = 1 << 20;
/// Values of a body beside one for each token of the context, a few times over: prompts may be lists of token ids.
const ANY_VALUES: usize = 64 << 10;

/// What a request may have, by the plan in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Tokens of a prompt and its answer.
    pub(super) context: u32,
    /// Sequences, waiting or not.
    pub(super) sequences: usize,
    /// Bytes of a prompt.
    text: usize,
    /// Bytes of the body.
    body: usize,
    /// Whether longer contexts would have longer bodies.
    by_context: bool,
    /// JSON values in the body.
    values: usize,
}

impl Extent {
    /// By the plan in use, and a queue of `queue_limit`.
    pub(super) fn of(plan: &ServedPlan, queue_limit: usize, options: &Options) -> Self {
        let context = plan.context as usize;
        let text = ANY_TEXT.max(BYTES_PER_TOKEN.saturating_mul(context));
        let body = text.saturating_mul(ESCAPED).saturating_add(BESIDE);
        Self {
            context: plan.context,
            sequences: plan.slots as usize + queue_limit,
            text,
            body: body.min(options.body_limit),
            by_context: body < options.body_limit,
            values: context.saturating_mul(4).saturating_add(ANY_VALUES),
        }
    }

    /// Whether a body may have `bytes`.
    pub(super) fn check_body(&self, bytes: u64) -> Result<(), ApiError> {
        if bytes <= self.body as u64 {
            Ok(())
        } else if self.by_context {
            let (context, body) = (self.context, self.body);
            let what =
                format!("the body of your request has {bytes} bytes or more, and {body} hold any request that fits");
            Err(ApiError::context_in_words("", context, &what))
        } else {
            Err(ApiError::large_body(self.body))
        }
    }

    /// Whether a prompt may have `bytes`. Messages may have some more, as templates leave parts of them out.
    pub(super) fn check_text(&self, param: &str, bytes: usize) -> Result<(), ApiError> {
        if bytes <= self.text {
            return Ok(());
        }
        let (context, text) = (self.context, self.text);
        let what = format!("your {param} has {bytes} bytes of text, and {text} are taken at most");
        Err(ApiError::context_in_words(param, context, &what))
    }

    /// Whether messages may have `bytes` before the template makes a prompt of them.
    pub(super) fn check_messages(&self, param: &str, bytes: usize) -> Result<(), ApiError> {
        /// What answers thought is left out of prompts by many templates.
        const LEFT_OUT: usize = 4;
        if bytes <= self.text.saturating_mul(LEFT_OUT) { Ok(()) } else { self.check_text(param, bytes) }
    }

    /// The body as JSON. Small values take many times the memory of their text, so they are counted before.
    pub(super) fn parse(&self, bytes: &mut [u8]) -> Result<Value, ApiError> {
        let bytes = mended(bytes);
        let (found, most) = (commas_and_colons(bytes), self.values);
        if found > most {
            let message = format!("The body of your request has {found} values or more: {most} are taken at most.");
            return Err(ApiError::invalid("", "too_many_values", message));
        }
        serde_json::from_slice(bytes).map_err(|fault| {
            let message = format!("We could not parse the JSON body of your request: {fault}.");
            ApiError::invalid("", "invalid_json", message)
        })
    }
}

/// One for each value of a JSON text, but for the first of each list and object.
fn commas_and_colons(bytes: &[u8]) -> usize {
    let (mut in_string, mut escaped, mut found) = (false, false, 0);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' if !in_string => found += 1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(context: u32) -> Extent {
        let plan = ServedPlan { context, slots: 2, ..ServedPlan::default() };
        Extent::of(&plan, 3, &Options::default())
    }

    #[test]
    fn limits_follow_from_the_context() {
        let (short, middle, long) = (of(512), of(16_384), of(131_072));
        assert_eq!((short.text, short.body, short.sequences), (64 << 10, (1 << 20) + (384 << 10), 5));
        assert_eq!((middle.text, middle.by_context), (256 << 10, true));
        assert_eq!((long.text, long.body, long.by_context), (2 << 20, 8 << 20, false));
        assert!(short.check_body(7_900_000).unwrap_err().message.contains("maximum context length is 512 tokens"));
        assert_eq!(long.check_body(9 << 20).unwrap_err().status, 413);
        assert!(short.check_text("prompt", 65_536).is_ok() && short.check_text("prompt", 65_537).is_err());
    }

    #[test]
    fn values_are_counted_before_they_are_made() {
        assert_eq!(commas_and_colons(br#"{"a": [1, 2], "b\",:": "x,\\", "c": {}}"#), 7);
        let extent = of(512);
        let list = |values: usize| format!("[{}1]", "1,".repeat(values)).into_bytes();
        assert!(extent.parse(&mut list(60_000)).is_ok());
        assert!(extent.parse(&mut list(70_000)).unwrap_err().message.contains("values"));
        let text = format!("[\"{}\"]", ",".repeat(1_000_000));
        assert!(extent.parse(&mut text.into_bytes()).is_ok(), "texts may say what they like");
    }
}
