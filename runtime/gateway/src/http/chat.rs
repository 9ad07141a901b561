//! Reading a request for a chat completion.

use lime_text::TextError;
use serde_json::{Map, Value};

use super::{
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
    job::{Job, check_choices, room},
    params::{COMMON, Common},
    prediction,
};

/// Names that only a chat completion knows.
const OWN: [&str; 13] = [
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "modalities",
    "audio",
    "prediction",
    "chat_template_kwargs",
    "reasoning_effort",
];
/// Names that change nothing here.
const IGNORED: [&str; 9] = [
    "metadata",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
    "web_search_options",
];
/// What `chat_template_kwargs` may not say: what the conversation and the way of rendering it are.
const NOT_VARIABLES: [&str; 8] = [
    "messages",
    "conversation",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "tokenize",
];
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
const MOST_ALTERNATIVES: i64 = 20;

/// Reads and tokenizes.
pub(super) fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Job, ApiError> {
    let extent = encoder.extent;
    fields.only(&[&COMMON, &OWN, &IGNORED])?;
    refuse_unsupported(fields)?;
    let common = Common::read(fields, encoder.text)?;
    check_choices(1, common.n, extent.sequences)?;
    let messages = messages(fields)?;
    let variables = variables(fields)?;
    let logprobs = logprobs(fields)?;
    let most = i64::from(u32::MAX);
    let asked = fields.integer("max_completion_tokens", 1..=most)?.or(fields.integer("max_tokens", 1..=most)?);
    extent.check_messages("messages", text_bytes(&messages))?;
    let chat = encoder.text.chat_text(&messages, &variables).map_err(|fault| match fault {
        // Templates refuse conversations in their own words: the client's to mend.
        TextError::Template { .. } => ApiError::template(&fault),
        other => wrong_value("messages", other),
    })?;
    let prompt = encoder.prompt("messages", &chat.text, chat.special, String::new())?;
    let room = room(extent.context, prompt.tokens.len(), asked.map(|asked| asked as u32), "messages")?;
    // The model's own bound is for requests that name none.
    let own_bound = encoder.text.generation.max_new_tokens.unwrap_or(u32::MAX);
    let max_tokens = if asked.is_some() { room } else { room.min(own_bound) };
    let prediction = prediction::read(fields, encoder)?;
    Ok(Job { prompts: vec![prompt], common, max_tokens: vec![max_tokens], logprobs, prediction })
}

/// Bytes of what the messages say.
fn text_bytes(messages: &Value) -> usize {
    let of = |content: &Value| match content {
        Value::String(text) => text.len(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).map(str::len).sum(),
        _ => 0,
    };
    let contents = messages.as_array().into_iter().flatten().filter_map(|message| message.get("content"));
    contents.map(of).sum()
}

/// The template's own variables.
fn variables(fields: Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut variables = fields.object("chat_template_kwargs")?.cloned().unwrap_or_default();
    if let Some(name) = NOT_VARIABLES.into_iter().find(|name| variables.contains_key(*name)) {
        let path = format!("chat_template_kwargs.{name}");
        let what = "it is no variable of a template: the request's own fields say it, or this server does";
        return Err(ApiError::unsupported(&path, what));
    }
    // A template that knows no such variable does not look at it.
    if let Some(effort) = fields.text("reasoning_effort")? {
        variables.entry("reasoning_effort").or_insert_with(|| effort.into());
    }
    Ok(variables)
}

/// The conversation, each message with a known role and a content that is there.
fn messages(fields: Fields<'_>) -> Result<Value, ApiError> {
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
    let mut message = message.clone();
    // The newer name of the same role; templates know the older one.
    if role == "developer" {
        message["role"] = "system".into();
    }
    Ok(message)
}

fn logprobs(fields: Fields<'_>) -> Result<Option<u32>, ApiError> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=MOST_ALTERNATIVES)?;
    if top.is_some_and(|top| top > 0) && !wanted {
        return Err(wrong_value("top_logprobs", "it needs 'logprobs' to be true"));
    }
    Ok(wanted.then(|| top.unwrap_or(0) as u32))
}

fn refuse_unsupported(fields: Fields<'_>) -> Result<(), ApiError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let no_tools = fields.get("tool_choice").is_some_and(|choice| choice == "none");
    for name in ["tools", "functions"] {
        if fields.get(name).is_some_and(|tools| !empty(tools)) && !no_tools {
            let what = "this server does not call tools; leave it out, or set 'tool_choice' to \"none\"";
            return Err(ApiError::unsupported(name, what));
        }
    }
    if fields.get("audio").is_some() {
        return Err(ApiError::unsupported("audio", "this server answers with text, drawn token by token"));
    }
    if fields.get("modalities").is_some_and(|modalities| *modalities != serde_json::json!(["text"])) {
        return Err(ApiError::unsupported("modalities", "this server answers with text alone"));
    }
    let format = fields.object("response_format")?.and_then(|format| format.get("type"));
    if format.is_some_and(|format| format != "text") {
        return Err(ApiError::unsupported("response_format", "only the type \"text\" is"));
    }
    Ok(())
}
