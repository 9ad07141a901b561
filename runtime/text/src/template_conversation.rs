//! The conversation and what stands beside it, as transformers hands them to chat templates.

use serde_json::{Map, Value};

use crate::error::TextError;

/// Names under which a message's reasoning is passed, the standard one first.
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The conversation as transformers hands it to templates: without fields that are null, and with each message's
/// reasoning under every name that templates read.
pub(crate) fn prepared(messages: &Value) -> Result<Value, TextError> {
    let fault = |reason: &str| TextError::Template { reason: reason.into() };
    let list = messages.as_array().ok_or_else(|| fault("the messages must be a list"))?;
    if list.is_empty() {
        return Err(fault("the conversation is empty: give at least one message"));
    }
    let message = |message: &Value| {
        let message = message.as_object().ok_or_else(|| fault("every message must be an object"))?;
        let fields = message.iter().filter(|(_, value)| !value.is_null());
        let fields = fields.map(|(name, value)| (name.clone(), value.clone()));
        let Some(reasoning) =
            REASONING_FIELDS.iter().find_map(|name| message.get(*name).filter(|value| !value.is_null()))
        else {
            return Ok(Value::Object(fields.collect()));
        };
        let mut aliased = Map::from_iter([("thinking".to_owned(), reasoning.clone())]);
        aliased.extend(fields);
        aliased.insert(REASONING_FIELDS[0].to_owned(), reasoning.clone());
        Ok(Value::Object(aliased))
    };
    list.iter().map(message).collect()
}
