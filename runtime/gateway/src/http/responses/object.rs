//! The response as an object.

use serde_json::{Map, Value, json};

use super::items::name;
use crate::{answer::Reason, http::shape::now};

/// What stays the same from the first event of a response to the last.
#[derive(Clone, Debug)]
pub(super) struct Object {
    base: Map<String, Value>,
    prompt: u64,
}

impl Object {
    /// With what it repeats of its request.
    pub(super) fn new(model: &str, told: Map<String, Value>, prompt: u64) -> Self {
        let base = json!({
            "id": name("resp"), "object": "response", "created_at": now(), "model": model, "background": false, "error": null,
            "incomplete_details": null, "instructions": null, "max_output_tokens": null, "metadata": {},
            "parallel_tool_calls": true, "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
            "service_tier": "default", "store": false, "temperature": 1.0, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "user": null, "output": [],
            "usage": null,
        });
        let Value::Object(mut base) = base else { unreachable!("an object was written") };
        base.extend(told);
        Self { base, prompt }
    }

    /// While it is under way.
    pub(super) fn begun(&self) -> Value {
        self.with("in_progress", json!({}))
    }

    /// At its end.
    pub(super) fn ended(&self, items: &[Value], reason: Reason, drawn: u64) -> Value {
        let usage = json!({
            "input_tokens": self.prompt, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": drawn,
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
        object.insert("status".into(), status.into());
        if let Value::Object(more) = more {
            object.extend(more);
        }
        object.into()
    }
}
