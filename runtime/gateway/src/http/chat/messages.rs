//! The conversation of a chat.

use serde_json::{Map, Value};

use crate::http::{
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// The conversation, each message with a known role and a content that is there.
pub(super) fn messages(fields: Fields<'_>) -> Result<Value, ApiError> {
    let missing =
        || ApiError::invalid("messages", "missing_required_parameter", "Missing required parameter: 'messages'.");
    let messages = fields.get("messages").ok_or_else(missing)?;
    let list = messages.as_array().ok_or_else(|| wrong_type("messages", "an array of objects", messages))?;
    if list.is_empty() {
        return Err(wrong_value("messages", "expected at least one message"));
    }
    list.iter().enumerate().map(|(place, message)| checked(place, message)).collect()
}

fn checked(place: usize, message: &Value) -> Result<Value, ApiError> {
    let path = format!("messages[{place}]");
    let fields = message.as_object().ok_or_else(|| wrong_type(&path, "an object", message))?;
    let role_path = format!("{path}.role");
    let role = match fields.get("role") {
        Some(Value::String(role)) => role.as_str(),
        Some(other) => return Err(wrong_type(&role_path, "a string", other)),
        None => {
            let message = format!("Missing required parameter: '{role_path}'.");
            return Err(ApiError::invalid(&role_path, "missing_required_parameter", message));
        }
    };
    if !ROLES.contains(&role) {
        return Err(wrong_value(&role_path, format!("{role:?} is none of {}", ROLES.join(", "))));
    }
    let content_path = format!("{path}.content");
    match fields.get("content") {
        Some(Value::String(_)) => {}
        Some(Value::Array(parts)) => parts.iter().enumerate().try_for_each(|(number, part)| {
            let part_path = format!("{content_path}[{number}]");
            match (part.get("type").and_then(Value::as_str), part.get("text")) {
                (Some("text"), Some(Value::String(_))) => Ok(()),
                (Some("text"), _) => Err(wrong_value(&part_path, "a part of type text needs a string 'text'")),
                (Some(other), _) => {
                    let what = format!("parts of type {other:?} are not supported: this model reads text only");
                    Err(wrong_value(&part_path, what))
                }
                (None, _) => Err(wrong_value(&part_path, "expected an object with a 'type'")),
            }
        })?,
        None | Some(Value::Null) if role == "assistant" => {}
        None | Some(Value::Null) => {
            let message = format!("Missing required parameter: '{content_path}'.");
            return Err(ApiError::invalid(&content_path, "missing_required_parameter", message));
        }
        Some(other) => return Err(wrong_type(&content_path, "a string or an array of parts", other)),
    }
    check_calls(&path, fields)?;
    let mut message = message.clone();
    // The newer name of the same role; templates know the older one.
    if role == "developer" {
        message["role"] = "system".into();
    }
    Ok(message)
}

/// Calls of tools that an earlier answer made: templates write them as the model did.
fn check_calls(path: &str, message: &Map<String, Value>) -> Result<(), ApiError> {
    let path = format!("{path}.tool_calls");
    let calls = match message.get("tool_calls") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(calls)) => calls,
        Some(other) => return Err(wrong_type(&path, "an array of calls", other)),
    };
    calls.iter().enumerate().try_for_each(|(place, call)| {
        let named = call.get("function").and_then(|function| function.get("name")).is_some_and(Value::is_string);
        let what = || "a call needs a 'function' with a string 'name'";
        if named { Ok(()) } else { Err(wrong_value(&format!("{path}[{place}]"), what())) }
    })
}

/// Bytes of what the messages say.
pub(super) fn text_bytes(messages: &Value) -> usize {
    let of = |content: &Value| match content {
        Value::String(text) => text.len(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).map(str::len).sum(),
        _ => 0,
    };
    let contents = messages.as_array().into_iter().flatten().filter_map(|message| message.get("content"));
    contents.map(of).sum()
}
