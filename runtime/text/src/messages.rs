//! Conversations in the OpenAI API's form, brought into the form that chat templates expect.

use serde_json::{Map, Value};

use crate::error::TextError;

/// The messages of an OpenAI request as templates expect them: parts of text joined into one string, and the arguments
/// of tool calls as objects rather than JSON text, and no content as an empty one. Everything else stays as it is.
///
/// # Errors
/// Messages that are no objects with a `role`, or parts that are not text.
pub fn template_messages(messages: &Value) -> Result<Value, TextError> {
    let list = messages.as_array().ok_or_else(|| fault("\"messages\" must be a list"))?;
    list.iter().enumerate().map(|(place, message)| template_message(place, message)).collect()
}

/// The prompt for a model without a chat template: the texts of all messages, one after another, a newline between
/// them and no roles. A base model goes on writing from there.
///
/// # Errors
/// As [`template_messages`].
pub fn plain_prompt(messages: &Value) -> Result<String, TextError> {
    let messages = template_messages(messages)?;
    let texts = messages.as_array().into_iter().flatten().filter_map(|message| message.get("content")?.as_str());
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

fn template_message(place: usize, message: &Value) -> Result<Value, TextError> {
    let mut message = match message {
        Value::Object(message) if message.get("role").is_some_and(Value::is_string) => message.clone(),
        _ => return Err(fault(&format!("\"messages[{place}]\" must be an object with a \"role\""))),
    };
    match message.get("content") {
        Some(Value::String(_)) => {}
        // A message that only calls tools; most templates look at its content all the same.
        None | Some(Value::Null) => drop(message.insert("content".into(), "".into())),
        Some(Value::Array(parts)) => {
            let texts: Option<Vec<&str>> = parts.iter().map(text_of_part).collect();
            let what = "may hold text only: this model takes no images or sound";
            let texts = texts.ok_or_else(|| fault(&format!("\"messages[{place}].content\" {what}")))?;
            message.insert("content".into(), texts.join("\n").into());
        }
        Some(_) => return Err(fault(&format!("\"messages[{place}].content\" must be a string or a list of parts"))),
    }
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        calls.iter_mut().filter_map(|call| call.get_mut("function")?.get_mut("arguments")).for_each(parse_arguments);
    }
    Ok(Value::Object(message))
}

fn text_of_part(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        Value::Object(part) if part.get("type").and_then(Value::as_str) == Some("text") => part.get("text")?.as_str(),
        _ => None,
    }
}

fn parse_arguments(arguments: &mut Value) {
    let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    if let Some(parsed) = parsed {
        *arguments = Value::Object(parsed);
    }
}

fn fault(reason: &str) -> TextError {
    TextError::Template { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_and_arguments_become_what_templates_read() {
        let call =
            json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}});
        let given = json!([
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": null, "tool_calls": [call]},
        ]);
        let messages = template_messages(&given).unwrap();
        assert_eq!(messages[0]["content"], "one\ntwo");
        assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"].to_string(), r#"{"b":1,"a":2}"#);
        assert_eq!(messages[1]["content"], "");
        assert_eq!(plain_prompt(&json!([given[0], given[0]])).unwrap(), "one\ntwo\none\ntwo");
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        for wrong in [
            json!("text"),
            json!(["text"]),
            json!([{"content": "no role"}]),
            json!([{"role": "user", "content": 1}]),
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        ] {
            assert!(template_messages(&wrong).is_err(), "{wrong}");
        }
    }
}
