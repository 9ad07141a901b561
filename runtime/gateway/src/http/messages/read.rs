//! Reading a request for a message: it becomes a request for a chat completion.

use serde_json::{Map, Value, json};

use crate::http::{
    chat,
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
    job::Job,
};

/// Every name that is known here.
pub(super) const KNOWN: [&[&str]; 3] = [&OWN, &IGNORED, &REFUSED];
const OWN: [&str; 16] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "seed",
    "chat_template_kwargs",
    "output_config",
    "output_format",
];
/// Names that change nothing here.
const IGNORED: [&str; 3] = ["metadata", "service_tier", "context_management"];
/// What runs elsewhere, or promises what is not done here.
const REFUSED: [&str; 2] = ["mcp_servers", "container"];
/// Names that a chat completion knows as well.
const SAME: [&str; 8] =
    ["model", "max_tokens", "stream", "temperature", "top_p", "top_k", "seed", "chat_template_kwargs"];

/// Reads and tokenizes.
pub(super) fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Job, ApiError> {
    let body = Value::Object(as_chat(fields)?);
    chat::read::read(Fields::of_body(&body)?, encoder)
}

/// Tokens of the conversation.
pub(super) fn count(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<usize, ApiError> {
    let body = Value::Object(as_chat(fields)?);
    let (text, special, _) = chat::read::render(Fields::of_body(&body)?, encoder)?;
    Ok(encoder.prompt("messages", &text, special, String::new())?.tokens.len())
}

fn as_chat(fields: Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    if let Some(name) = REFUSED.into_iter().find(|name| fields.get(name).is_some_and(|value| *value != json!([]))) {
        return Err(ApiError::unsupported(name, "this server answers with text and calls of the client's own tools"));
    }
    let mut chat: Map<String, Value> =
        SAME.iter().filter_map(|name| Some(((*name).to_owned(), fields.get(name)?.clone()))).collect();
    let within = fields.object("output_config")?.and_then(|config| config.get("format"));
    if let Some(format) = within.or_else(|| fields.get("output_format")) {
        chat.insert("response_format".into(), format.clone());
    }
    if let Some(stops) = fields.get("stop_sequences") {
        chat.insert("stop".into(), stops.clone());
    }
    if let Some(thinking) = fields.object("thinking")? {
        let enabled = thinking.get("type").is_some_and(|kind| kind != "disabled");
        let variables = chat.entry("chat_template_kwargs").or_insert_with(|| json!({}));
        if let Some(variables) = variables.as_object_mut() {
            variables.entry("enable_thinking").or_insert_with(|| enabled.into());
        }
    }
    tools(fields, &mut chat)?;
    let mut messages = Vec::new();
    if let Some(system) = fields.get("system") {
        messages.push(json!({"role": "system", "content": texts("system", system)?}));
    }
    let given = fields.get("messages").ok_or_else(|| {
        ApiError::invalid("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
    })?;
    let list = given.as_array().ok_or_else(|| wrong_type("messages", "an array of messages", given))?;
    for (place, message) in list.iter().enumerate() {
        take(&format!("messages[{place}]"), message, &mut messages)?;
    }
    chat.insert("messages".into(), messages.into());
    Ok(chat)
}

fn tools(fields: Fields<'_>, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    if let Some(tools) = fields.get("tools") {
        let list = tools.as_array().ok_or_else(|| wrong_type("tools", "an array of tools", tools))?;
        let tool = |tool: &Value| match tool.get("type").and_then(Value::as_str) {
            None | Some("custom") => {
                json!({"type": "function", "function": {"name": tool["name"], "description": tool["description"],
                       "parameters": tool["input_schema"], "strict": tool["strict"]}})
            }
            // Refused by its name where chats are read.
            Some(other) => json!({"type": other}),
        };
        chat.insert("tools".into(), list.iter().map(tool).collect());
    }
    let Some(choice) = fields.object("tool_choice")? else { return Ok(()) };
    let chosen = match choice.get("type").and_then(Value::as_str) {
        Some("auto") => "auto".into(),
        Some("any") => "required".into(),
        Some("none") => "none".into(),
        Some("tool") => json!({"type": "function", "function": {"name": choice.get("name")}}),
        _ => return Err(wrong_value("tool_choice", "its type is one of auto, any, tool and none")),
    };
    chat.insert("tool_choice".into(), chosen);
    if choice.get("disable_parallel_tool_use").and_then(Value::as_bool) == Some(true) {
        chat.insert("parallel_tool_calls".into(), false.into());
    }
    Ok(())
}

/// Takes a message into the conversation: what tools said becomes messages of its own, before the text beside it.
fn take(path: &str, message: &Value, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    if !matches!(role, "user" | "assistant" | "system") {
        return Err(wrong_value(&format!("{path}.role"), format!("{role:?} is neither user nor assistant")));
    }
    let path = format!("{path}.content");
    let blocks = match message.get("content") {
        Some(Value::String(text)) => {
            messages.push(json!({"role": role, "content": text}));
            return Ok(());
        }
        Some(Value::Array(blocks)) => blocks,
        Some(other) => return Err(wrong_type(&path, "a string or an array of blocks", other)),
        None => {
            let message = format!("Missing required parameter: '{path}'.");
            return Err(ApiError::invalid(&path, "missing_required_parameter", message));
        }
    };
    let (mut text, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for (number, block) in blocks.iter().enumerate() {
        let path = format!("{path}[{number}]");
        match block.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text" => text.push(string(&path, block, "text")?),
            "thinking" => thoughts.push(string(&path, block, "thinking")?),
            // Sealed with a key of another server.
            "redacted_thinking" => {}
            "tool_use" => calls.push(json!({"id": block["id"], "type": "function",
                                            "function": {"name": block["name"], "arguments": block["input"]}})),
            "tool_result" => {
                let content =
                    block.get("content").map_or_else(|| Ok(String::new()), |content| texts(&path, content))?;
                messages.push(json!({"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}));
            }
            other => {
                let what = format!("blocks of type {other:?} are not supported: this model reads text only");
                return Err(wrong_value(&path, what));
            }
        }
    }
    if text.is_empty() && thoughts.is_empty() && calls.is_empty() {
        return Ok(());
    }
    let mut taken = json!({"role": role, "content": text.join("\n")});
    if !thoughts.is_empty() {
        taken["reasoning_content"] = thoughts.join("\n").into();
    }
    if !calls.is_empty() {
        taken["tool_calls"] = calls.into();
    }
    messages.push(taken);
    Ok(())
}

fn string<'a>(path: &str, block: &'a Value, name: &str) -> Result<&'a str, ApiError> {
    let found = block.get(name).and_then(Value::as_str);
    found.ok_or_else(|| wrong_value(path, format!("a block of this type needs a string '{name}'")))
}

/// A text, or the texts of blocks.
fn texts(path: &str, value: &Value) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let texts: Vec<&str> = blocks.iter().map(|block| string(path, block, "text")).collect::<Result<_, _>>()?;
            Ok(texts.join("\n"))
        }
        other => Err(wrong_type(path, "a string or an array of blocks of text", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_a_conversation() {
        let body = json!({
            "model": "m", "max_tokens": 5, "system": [{"type": "text", "text": "Be brief"}], "stop_sequences": ["x"],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true}, "thinking": {"type": "enabled", "budget_tokens": 9},
            "messages": [
                {"role": "user", "content": "Hark"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "Ay"},
                    {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "done"}]},
                    {"type": "text", "text": "And now?"},
                ]},
            ],
        });
        let chat = as_chat(Fields::of_body(&body).unwrap()).unwrap();
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
        assert_eq!(
            chat["messages"],
            json!([
                {"role": "system", "content": "Be brief"},
                {"role": "user", "content": "Hark"},
                {"role": "assistant", "content": "Ay", "reasoning_content": "hm", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": "done"},
                {"role": "user", "content": "And now?"},
            ])
        );
        assert_eq!(
            (&chat["stop"], &chat["tool_choice"], &chat["parallel_tool_calls"]),
            (&json!(["x"]), &json!("required"), &json!(false))
        );
        assert_eq!(chat["chat_template_kwargs"], json!({"enable_thinking": true}));
        assert_eq!(chat["tools"][0]["function"]["parameters"], json!({"type": "object"}));
    }

    #[test]
    fn what_is_no_text_is_named() {
        let with = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        for (body, name) in [
            (json!({}), "'messages'"),
            (json!({"messages": [{"role": "tool", "content": "x"}]}), "'messages[0].role'"),
            (with(json!(1)), "'messages[0].content'"),
            (json!({"messages": [], "container": "x"}), "'container'"),
            (with(json!([{"type": "image"}])), "'messages[0].content[0]'"),
            (with(json!([{"type": "text"}])), "'messages[0].content[0]'"),
        ] {
            let fault = as_chat(Fields::of_body(&body).unwrap()).unwrap_err().message;
            assert!(fault.contains(name), "{body}: {fault}");
        }
    }
}
