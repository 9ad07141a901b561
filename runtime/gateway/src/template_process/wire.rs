//! One line of JSON each way.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest line that is read, in bytes: a reply that is longer is no prompt.
pub(super) const LONGEST: u64 = 64 << 20;

/// A conversation to render, up to where the answer begins.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Conversation {
    pub(super) messages: Value,
    pub(super) variables: Map<String, Value>,
}

/// What became of it.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The process has its template and waits; the first line.
    Ready,
    /// The prompt.
    Text(String),
    /// Why there is none, in the template's words.
    Refused(String),
}
