//! A message and the blocks of its content.

use lime_text::AnswerPart;
use serde_json::{Map, Value, json};

use crate::{
    answer::Reason,
    http::{params::random, shape::call_id},
};

/// A message without content, as one begins.
pub(super) fn message(model: &str, prompt: u64) -> Value {
    json!({
        "id": format!("msg_{:016x}{:08x}", random(), random() as u32), "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": prompt, "output_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    })
}

/// A block as it begins.
pub(super) fn begun_block(part: &AnswerPart) -> Value {
    match part {
        AnswerPart::Content(_) => json!({"type": "text", "text": ""}),
        AnswerPart::Reasoning(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
        AnswerPart::Call(call) => json!({"type": "tool_use", "id": call_id(), "name": call.name, "input": {}}),
    }
}

/// A whole block.
pub(super) fn whole_block(part: &AnswerPart) -> Value {
    let mut block = begun_block(part);
    match part {
        AnswerPart::Content(text) => block["text"] = text.clone().into(),
        AnswerPart::Reasoning(text) => block["thinking"] = text.clone().into(),
        // Calls are read as objects.
        AnswerPart::Call(call) => {
            block["input"] = serde_json::from_str::<Map<String, Value>>(&call.arguments).unwrap_or_default().into();
        }
    }
    block
}

/// Why a message ends.
pub(super) const fn stop_reason(reason: Reason, stop: Option<&str>) -> &'static str {
    match (reason, stop) {
        (Reason::Calls, _) => "tool_use",
        (Reason::Length, _) => "max_tokens",
        (Reason::Stop, Some(_)) => "stop_sequence",
        (Reason::Stop, None) => "end_turn",
    }
}
