//! The forms of answers: objects of the OpenAI API.

use std::time::{SystemTime, UNIX_EPOCH};

use lime_text::ToolCall;
use serde_json::{Map, Value, json};

use super::{job::Kind, params::random, said::Said};
use crate::{
    answer::{Reason, TokenReport},
    schedule::Guessed,
    text::TextModel,
};

/// What every object of one answer has in common.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    pub(crate) return_token_ids: bool,
}

impl Shape {
    pub(crate) fn new(kind: Kind, model: &str, fingerprint: &str, return_token_ids: bool) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        let id = format!("{prefix}-{:016x}{:08x}", random(), random() as u32);
        Self { kind, id, created: now(), model: model.into(), fingerprint: fingerprint.into(), return_token_ids }
    }

    /// A whole answer.
    pub(crate) fn whole(&self, choices: Vec<Value>, usage: Value) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        self.object(object, choices, Some(usage))
    }

    /// A chunk of a stream. `usage` is there, if only as null, where the client asked for it.
    pub(crate) fn chunk(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        };
        self.object(object, choices, usage)
    }

    /// A choice of a whole answer.
    pub(crate) fn choice(&self, index: usize, said: Said, logprobs: Value, tokens: Vec<u32>) -> Value {
        let mut choice = match self.kind {
            Kind::Chat => json!({"index": index, "message": message(&said)}),
            Kind::Text => json!({"index": index, "text": said.content}),
        };
        choice["logprobs"] = logprobs;
        choice["finish_reason"] = said.reason.name().into();
        if self.return_token_ids {
            choice["token_ids"] = tokens.into();
        }
        choice
    }

    /// The first chunk of a choice: its role.
    pub(crate) fn role(&self, index: usize) -> Value {
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null})
    }

    /// More of a choice's text.
    pub(crate) fn text(&self, text: String) -> Value {
        match self.kind {
            Kind::Chat => json!({"delta": {"content": text}}),
            Kind::Text => json!({"text": text}),
        }
    }

    /// More of what was thought.
    pub(crate) fn thought(text: &str) -> Value {
        json!({"delta": {"reasoning_content": text}})
    }

    /// Call number `number` of a choice, and its arguments.
    pub(crate) fn call(number: usize, call: &ToolCall) -> [Value; 2] {
        let function = json!({"name": call.name, "arguments": ""});
        let begun = json!({"index": number, "id": call_id(), "type": "function", "function": function});
        let rest = json!({"index": number, "function": {"arguments": call.arguments}});
        [begun, rest].map(|call| json!({"delta": {"tool_calls": [call]}}))
    }

    /// Nothing more of a choice.
    pub(crate) fn nothing(&self) -> Value {
        match self.kind {
            Kind::Chat => json!({"delta": {}}),
            Kind::Text => json!({"text": ""}),
        }
    }

    /// What a choice gained, as it stands in a chunk.
    pub(crate) fn delta(
        &self,
        index: usize,
        gained: Value,
        reason: Option<Reason>,
        logprobs: Value,
        tokens: Vec<u32>,
    ) -> Value {
        let mut choice = json!({"index": index});
        if let (Value::Object(choice), Value::Object(gained)) = (&mut choice, gained) {
            choice.extend(gained);
        }
        choice["logprobs"] = logprobs;
        choice["finish_reason"] = reason.map(Reason::name).into();
        if self.return_token_ids {
            choice["token_ids"] = tokens.into();
        }
        choice
    }

    /// Log-probabilities as this interface shows them.
    pub(crate) fn logprobs(&self, text: &TextModel, reports: &[TokenReport]) -> Value {
        match self.kind {
            Kind::Chat => {
                let content: Vec<Value> = reports.iter().map(|report| chat_logprob(text, report)).collect();
                json!({"content": content, "refusal": null})
            }
            Kind::Text => text_logprobs(text, reports),
        }
    }

    /// Whether this is the chat interface.
    pub(crate) fn is_chat(&self) -> bool {
        self.kind == Kind::Chat
    }

    fn object(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut value = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        });
        if let Some(usage) = usage {
            value["usage"] = usage;
        }
        value
    }
}

fn message(said: &Said) -> Value {
    let content =
        if said.content.is_empty() && !said.calls.is_empty() { Value::Null } else { said.content.clone().into() };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !said.reasoning.is_empty() {
        message["reasoning_content"] = said.reasoning.clone().into();
    }
    if !said.calls.is_empty() {
        let call = |call: &ToolCall| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": call_id(), "type": "function", "function": function})
        };
        message["tool_calls"] = said.calls.iter().map(call).collect();
    }
    message
}

/// A name for a call: nine letters and digits, which is what the strictest templates take.
pub(super) fn call_id() -> String {
    (0..9).map(|_| fastrand::alphanumeric()).collect()
}

/// Tokens that an answer took: of its prompt, of them those that were there already, of the answer, and of those the ones that were guessed
/// ahead where any were.
pub(crate) fn usage(prompt: u64, cached: u64, answer: u64, guessed: Guessed) -> Value {
    let mut usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached},
    });
    if guessed != Guessed::default() {
        let Guessed { held, wrong } = guessed;
        usage["completion_tokens_details"] =
            json!({"accepted_prediction_tokens": held, "rejected_prediction_tokens": wrong});
    }
    usage
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn chat_logprob(text: &TextModel, report: &TokenReport) -> Value {
    let one = |token: u32, logprob: Option<f32>| {
        let bytes = text.tokenizer.token_bytes(token);
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes})
    };
    let mut entry = one(report.token, report.logprob);
    entry["top_logprobs"] = report.top.iter().map(|(token, logprob)| one(*token, Some(*logprob))).collect();
    entry
}

fn text_logprobs(text: &TextModel, reports: &[TokenReport]) -> Value {
    let alternatives = |report: &TokenReport| {
        let Some(logprob) = report.logprob else { return Value::Null };
        let own = (report.token, logprob);
        let all = report.top.iter().copied().chain((!report.top.is_empty()).then_some(own));
        all.map(|(token, logprob)| (label(text, token), logprob.into())).collect::<Map<String, Value>>().into()
    };
    json!({
        "tokens": reports.iter().map(|report| label(text, report.token)).collect::<Vec<_>>(),
        "token_logprobs": reports.iter().map(|report| report.logprob).collect::<Vec<_>>(),
        "top_logprobs": reports.iter().map(alternatives).collect::<Vec<_>>(),
        "text_offset": reports.iter().map(|report| report.offset).collect::<Vec<_>>(),
    })
}

/// A token as a string: its text, or its bytes where they are no text on their own.
fn label(text: &TextModel, token: u32) -> String {
    let bytes = text.tokenizer.token_bytes(token);
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(fault) => {
            let hex: String = fault.as_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{hex}")
        }
    }
}
