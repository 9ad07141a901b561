//! The items of a response: thoughts, messages and calls.

use lime_text::{AnswerPart, ToolCall};
use serde_json::{Value, json};

use crate::http::{params::random, shape::call_id};

/// An item, whole or under way.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) what: What,
}

/// What an item is.
#[derive(Clone, Debug)]
pub(super) enum What {
    Message(String),
    Thoughts(String),
    Call(String, ToolCall),
}

impl Item {
    pub(super) fn whole(part: &AnswerPart) -> Self {
        let (prefix, what) = match part {
            AnswerPart::Content(text) => ("msg", What::Message(text.clone())),
            AnswerPart::Reasoning(text) => ("rs", What::Thoughts(text.clone())),
            AnswerPart::Call(call) => ("fc", What::Call(call_id(), call.clone())),
        };
        Self { id: name(prefix), what }
    }

    /// As a response has it once it is whole.
    pub(super) fn written(&self) -> Value {
        self.json("completed", true)
    }

    /// As it is announced: with nothing in it.
    pub(super) fn announced(&self) -> Value {
        self.json("in_progress", false)
    }

    fn json(&self, status: &str, whole: bool) -> Value {
        let id = &self.id;
        match &self.what {
            What::Message(text) => {
                let content = if whole { vec![part(text)] } else { Vec::new() };
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            What::Thoughts(text) => {
                let content = if whole { vec![json!({"type": "reasoning_text", "text": text})] } else { Vec::new() };
                json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
            }
            What::Call(call_id, call) => {
                let arguments = if whole { call.arguments.as_str() } else { "" };
                json!({"id": id, "type": "function_call", "status": status, "call_id": call_id, "name": call.name,
                       "arguments": arguments})
            }
        }
    }
}

/// A message's one part.
pub(super) fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// Items as a response lists them. One without anything has a message without text all the same: clients look for it.
pub(super) fn written(mut items: Vec<Item>) -> Vec<Value> {
    if items.is_empty() {
        items.push(Item::whole(&AnswerPart::Content(String::new())));
    }
    items.iter().map(Item::written).collect()
}

/// A name for an object.
pub(super) fn name(prefix: &str) -> String {
    format!("{prefix}_{:016x}{:016x}", random(), random())
}
