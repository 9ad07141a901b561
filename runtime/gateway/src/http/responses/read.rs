//! Reading a request for a response: it becomes a request for a chat completion.

use serde_json::{Map, Value, json};

use crate::http::{
    chat,
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, kind, wrong_type, wrong_value},
    form::FORMS,
    job::Job,
    params::{COMMON, PROMISES},
};

/// Every name that is known here.
pub(super) const KNOWN: [&[&str]; 5] = [&COMMON, &FORMS, &OWN, &IGNORED, &PROMISES];
/// Names that a response has of its own.
const OWN: [&str; 13] = [
    "input",
    "instructions",
    "max_output_tokens",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "previous_response_id",
    "conversation",
    "background",
    "chat_template_kwargs",
    "prompt",
];
/// Names that change nothing here.
const IGNORED: [&str; 10] = [
    "metadata",
    "store",
    "include",
    "truncation",
    "service_tier",
    "safety_identifier",
    "prompt_cache_retention",
    "top_logprobs",
    "max_tool_calls",
    "context_management",
];
/// What a response repeats of its request.
const TOLD: [&str; 10] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];

/// Reads and tokenizes.
pub(super) fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Job, ApiError> {
    let body = Value::Object(as_chat(fields)?);
    let job = chat::read::read(Fields::of_body(&body)?, encoder);
    job.map_err(|fault| fault.about("messages", "input").about("response_format", "text.format"))
}

/// What the answer repeats.
pub(super) fn told(fields: Fields<'_>) -> Map<String, Value> {
    TOLD.iter().filter_map(|name| Some(((*name).to_owned(), fields.get(name)?.clone()))).collect()
}

fn as_chat(fields: Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    for name in ["previous_response_id", "conversation", "prompt"] {
        if fields.get(name).is_some() {
            return Err(ApiError::unsupported(
                name,
                "this server keeps nothing between requests: send the whole 'input'",
            ));
        }
    }
    if fields.flag("background")?.unwrap_or(false) {
        return Err(ApiError::unsupported(
            "background",
            "this server keeps nothing between requests: stream the answer",
        ));
    }
    let same = COMMON.iter().chain(&FORMS).chain(&PROMISES).chain(&[
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "chat_template_kwargs",
    ]);
    let mut chat: Map<String, Value> =
        same.filter_map(|name| Some(((*name).to_owned(), fields.get(name)?.clone()))).collect();
    // Here it says what events tell; those of this server tell it as they are.
    chat.remove("stream_options");
    if let Some(format) = fields.object("text")?.and_then(|text| text.get("format")) {
        chat.insert("response_format".into(), format.clone());
    }
    if let Some(most) = fields.get("max_output_tokens") {
        chat.insert("max_tokens".into(), most.clone());
    }
    if let Some(effort) = fields.object("reasoning")?.and_then(|reasoning| reasoning.get("effort")) {
        chat.insert("reasoning_effort".into(), effort.clone());
    }
    let mut messages = Vec::new();
    if let Some(instructions) = fields.text("instructions")? {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    match fields.get("input") {
        None => {
            let message = "Missing required parameter: 'input'.";
            return Err(ApiError::invalid("input", "missing_required_parameter", message));
        }
        Some(Value::String(text)) => messages.push(json!({"role": "user", "content": text})),
        Some(Value::Array(items)) => {
            items
                .iter()
                .enumerate()
                .try_for_each(|(place, item)| take(&format!("input[{place}]"), item, &mut messages))?;
        }
        Some(other) => return Err(wrong_type("input", "a string or an array of items", other)),
    }
    chat.insert("messages".into(), messages.into());
    Ok(chat)
}

/// Takes an item into the conversation.
fn take(path: &str, item: &Value, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let field = |name: &str| item.get(name).cloned().unwrap_or_default();
    match item.get("type").and_then(Value::as_str) {
        None | Some("message") => {
            messages.push(json!({"role": item["role"], "content": content(path, &field("content"))?}))
        }
        Some("function_call") => {
            let function = json!({"name": field("name"), "arguments": field("arguments")});
            let call = json!({"id": field("call_id"), "type": "function", "function": function});
            // Calls of one answer stand in one message.
            match messages.last_mut() {
                Some(last) if last["role"] == "assistant" => match last["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                },
                _ => messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
            }
        }
        Some("function_call_output") => {
            let output = content(path, &field("output"))?;
            messages.push(json!({"role": "tool", "tool_call_id": field("call_id"), "content": output}));
        }
        // Models are given their thoughts of this turn alone, and templates leave out the others; this server has no key to those
        // that are sealed.
        Some("reasoning") => {}
        Some(other) => {
            let what =
                format!("items of type {other:?} are not supported: this server keeps nothing, and reads text only");
            return Err(wrong_value(path, what));
        }
    }
    Ok(())
}

/// The parts of a content, as chats have them.
fn content(path: &str, content: &Value) -> Result<Value, ApiError> {
    let Value::Array(parts) = content else {
        return match content {
            Value::String(_) | Value::Null => Ok(content.clone()),
            other => Err(wrong_value(path, format!("its content is {}, and no text", kind(other)))),
        };
    };
    let part = |part: &Value| match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("input_text" | "output_text" | "text"), Some(Value::String(text))) => {
            Ok(json!({"type": "text", "text": text}))
        }
        (Some("refusal"), _) => Ok(json!({"type": "text", "text": part["refusal"]})),
        (found, _) => {
            let what =
                format!("parts of type {:?} are not supported: this model reads text only", found.unwrap_or_default());
            Err(wrong_value(path, what))
        }
    };
    parts.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(body: &Value) -> Result<Value, ApiError> {
        as_chat(Fields::of_body(body).unwrap()).map(|chat| chat["messages"].clone())
    }

    #[test]
    fn items_become_a_conversation() {
        let body = json!({"instructions": "Be brief", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hark"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ay", "annotations": []}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "done"},
        ]});
        let call =
            |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
        let expected = json!([
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [{"type": "text", "text": "Hark"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Ay"}], "tool_calls": [call("1", "f"), call("2", "g")]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ]);
        assert_eq!(messages(&body).unwrap(), expected);
        assert_eq!(messages(&json!({"input": "Hark"})).unwrap(), json!([{"role": "user", "content": "Hark"}]));
    }

    #[test]
    fn what_would_have_to_be_kept_is_refused() {
        for (body, name) in [
            (json!({}), "'input'"),
            (json!({"input": "x", "previous_response_id": "resp_1"}), "'previous_response_id'"),
            (json!({"input": "x", "background": true}), "'background'"),
            (json!({"input": [{"type": "item_reference", "id": "x"}]}), "'input[0]'"),
            (json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}), "'input[0]'"),
        ] {
            let fault = messages(&body).unwrap_err().message;
            assert!(fault.contains(name), "{body}: {fault}");
        }
    }
}
