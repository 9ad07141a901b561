//! One line of JSON each way.

use lime_text::{ChatTemplate, TextError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest line that is read, in bytes: a reply that is longer is no prompt.
pub(super) const LONGEST: u64 = 64 << 20;

/// A conversation to render.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Conversation {
    pub(crate) messages: Value,
    pub(crate) tools: Option<Value>,
    pub(crate) variables: Map<String, Value>,
    /// Whether the text ends where an answer begins.
    pub(crate) generation_prompt: bool,
}

impl Conversation {
    /// What a template makes of it.
    pub(crate) fn render(&self, template: &ChatTemplate) -> Result<String, TextError> {
        template.render(&self.messages, self.generation_prompt, self.tools.as_ref(), &self.variables)
    }
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
