//! The response as an object.

use serde_json::{Map, Value, json};

use super::items::name;
use crate::{answer::Reason, http::shape::now};

/// What stays the same from the first event of a response to the last.
#[derive(Clone, Debug)]
pub(super) struct Object {
    base: Value,
    prompt: u64,
}

impl Object {
    /// With what it repeats of its request.
    pub(super) fn new(model: &str, told: Map<String, Value>, prompt: u64) -> Self {
        let mut base =
            json!({"id": name("resp"), "object": "response", "created_at": now(), "model": model, "output": []});
        let unsaid = [
            ("background", false.into()),
            ("error", Value::Null),
            ("incomplete_details", Value::Null),
            ("instructions", Value::Null),
            ("max_output_tokens", Value::Null),
            ("metadata", json!({})),
            ("parallel_tool_calls", true.into()),
            ("previous_response_id", Value::Null),
            ("reasoning", json!({"effort": null, "summary": null})),
            ("service_tier", "default".into()),
            ("store", false.into()),
            ("temperature", 1.0.into()),
            ("text", json!({"format": {"type": "text"}})),
            ("tool_choice", "auto".into()),
            ("tools", json!([])),
            ("top_p", 1.0.into()),
            ("truncation", "disabled".into()),
            ("usage", Value::Null),
            ("user", Value::Null),
        ];
        for (name, value) in unsaid.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(told) {
            base[name] = value;
        }
        Self { base, prompt }
    }

    /// While it is under way.
    pub(super) fn begun(&self) -> Value {
        self.with("in_progress", json!({}))
    }

    /// At its end.
    pub(super) fn ended(&self, items: &[Value], reason: Reason, drawn: u64, cached: u64) -> Value {
        let usage = json!({
            "input_tokens": self.prompt, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": drawn,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": self.prompt + drawn,
        });
        let details = match reason {
            Reason::Length => json!({"reason": "max_output_tokens"}),
            Reason::Stop | Reason::Calls => Value::Null,
        };
        let status = if details.is_null() { "completed" } else { "incomplete" };
        self.with(status, json!({"output": items, "usage": usage, "incomplete_details": details}))
    }

    /// Where there is no answer, or not all of it.
    pub(super) fn failed(&self, items: &[Value], code: &str, message: &str) -> Value {
        self.with("failed", json!({"output": items, "error": {"code": code, "message": message}}))
    }

    fn with(&self, status: &str, more: Value) -> Value {
        let mut object = self.base.clone();
        object["status"] = status.into();
        if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
            object.extend(more);
        }
        object
    }
}
