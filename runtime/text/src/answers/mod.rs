//! What an answer's text says beside prose: thoughts, and calls of tools, each family in a form of its own.
//!
//! An [`AnswerParser`] is a pure state machine. However a text is cut into pieces, it gives the same thoughts, the same prose and the
//! same calls; what looks like a call and cannot be read as one is prose, to the last byte.

mod bare;
mod call;
mod family;
mod in_words;
mod marked;
mod mistral;
mod prose;
mod scan;
mod short_ids;
mod thoughts;

pub use call::ToolCall;
pub use family::{AnswerFormat, CallMarks, CallStyle};
pub use in_words::tools_in_words;
pub use short_ids::short_call_ids;

use bare::Bare;
use marked::Marked;
use mistral::Mistral;
use thoughts::Thoughts;

/// What an answer gained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    /// Prose.
    Content(String),
    /// What the model thinks before it answers.
    Reasoning(String),
    /// A whole call.
    Call(ToolCall),
}

/// How one answer is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerReading {
    /// How calls are written, where tools were offered.
    pub calls: Option<CallStyle>,
    /// The tools that were offered.
    pub tools: Vec<String>,
    /// Whether the model tells its thoughts apart.
    pub thoughts: bool,
    /// What the prompt has of the answer already, so that it begins as was asked.
    pub begun: String,
    /// Whether the prompt ends in the middle of thoughts.
    pub thinking: bool,
}

/// Takes an answer's text in pieces and tells its parts.
#[derive(Debug)]
pub struct AnswerParser {
    thoughts: Option<Thoughts>,
    calls: Calls,
}

#[derive(Debug)]
enum Calls {
    None,
    Marked(Marked),
    Mistral(Mistral),
    Bare(Bare),
}

impl AnswerParser {
    /// Nothing of the answer is there yet but what the prompt has of it.
    pub fn new(reading: &AnswerReading) -> Self {
        let calls = match reading.calls {
            None => Calls::None,
            Some(CallStyle::Hermes) => Calls::Marked(Marked::default()),
            Some(CallStyle::Mistral) => Calls::Mistral(Mistral::default()),
            Some(CallStyle::Llama3) => Calls::Bare(Bare::new(reading.tools.clone(), Some(bare::PYTHON_TAG))),
            Some(CallStyle::Json) => Calls::Bare(Bare::new(reading.tools.clone(), None)),
        };
        let mut parser = Self { thoughts: reading.thoughts.then(|| Thoughts::new(reading.thinking)), calls };
        if !reading.begun.is_empty() {
            // A beginning alone is no whole call.
            parser.push(&reading.begun);
        }
        parser
    }

    /// Takes the next piece and gives what is certain now.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        let mut parts = Vec::new();
        let prose = match &mut self.thoughts {
            Some(thoughts) => thoughts.push(text, &mut parts),
            None => text.to_owned(),
        };
        self.calls.push(&prose, &mut parts);
        joined(parts)
    }

    /// The answer is over: what was held back is told.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        let mut parts = Vec::new();
        let prose = self.thoughts.as_mut().map(|thoughts| thoughts.finish(&mut parts)).unwrap_or_default();
        self.calls.push(&prose, &mut parts);
        match &mut self.calls {
            Calls::None => {}
            Calls::Marked(calls) => calls.finish(&mut parts),
            Calls::Mistral(calls) => calls.finish(&mut parts),
            Calls::Bare(calls) => calls.finish(&mut parts),
        }
        joined(parts)
    }
}

impl Calls {
    fn push(&mut self, text: &str, parts: &mut Vec<AnswerPart>) {
        match self {
            Self::None => say(text, parts),
            Self::Marked(calls) => calls.push(text, parts),
            Self::Mistral(calls) => calls.push(text, parts),
            Self::Bare(calls) => calls.push(text, parts),
        }
    }
}

/// Adds prose, if there is any.
fn say(text: &str, parts: &mut Vec<AnswerPart>) {
    if !text.is_empty() {
        parts.push(AnswerPart::Content(text.to_owned()));
    }
}

/// Neighbours of one kind as one part.
fn joined(parts: Vec<AnswerPart>) -> Vec<AnswerPart> {
    let mut joined: Vec<AnswerPart> = Vec::with_capacity(parts.len());
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(AnswerPart::Content(before)), AnswerPart::Content(text))
            | (Some(AnswerPart::Reasoning(before)), AnswerPart::Reasoning(text)) => before.push_str(&text),
            (_, part) => joined.push(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
