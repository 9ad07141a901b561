//! Tools for a model whose template knows none: they are told in words, and so is what became of earlier calls.

use serde_json::{Value, json};

// Short: small models have short contexts.
const TELLING: &str = "You can call these functions, each given by its name, description and JSON schema of arguments:";
const HOW: &str = "To call one, answer with JSON alone: {\"name\": NAME, \"arguments\": {...}}; several, one a line. Else answer in \
                   words.";

/// The conversation in which `tools` and their calls are told in words alone.
pub fn tools_in_words(messages: &Value, tools: &Value) -> Value {
    let mut told: Vec<Value> = messages.as_array().into_iter().flatten().map(in_words).collect();
    let list: Vec<String> =
        tools.as_array().into_iter().flatten().map(|tool| tool.get("function").unwrap_or(tool).to_string()).collect();
    if list.is_empty() {
        return told.into();
    }
    let telling = format!("{TELLING}\n{}\n{HOW}", list.join("\n"));
    // Not every template takes a system message that was not there; each takes a longer first one.
    match told.first_mut() {
        Some(first) if matches!(first["role"].as_str(), Some("system" | "user")) => {
            first["content"] = format!("{telling}\n\n{}", text(&first["content"])).into();
        }
        _ => told.insert(0, json!({"role": "system", "content": telling})),
    }
    told.into()
}

fn in_words(message: &Value) -> Value {
    let calls = message["tool_calls"].as_array().filter(|calls| !calls.is_empty());
    match (message["role"].as_str(), calls) {
        (Some("tool" | "function"), _) => {
            json!({"role": "user", "content": format!("The tool answered: {}", text(&message["content"]))})
        }
        (_, Some(calls)) => {
            let call = |call: &Value| {
                let function = call.get("function").unwrap_or(call);
                json!({"name": function["name"], "arguments": function["arguments"]}).to_string()
            };
            let mut lines: Vec<String> = calls.iter().map(call).collect();
            let said = text(&message["content"]);
            if !said.is_empty() {
                lines.insert(0, said);
            }
            json!({"role": "assistant", "content": lines.join("\n")})
        }
        _ => message.clone(),
    }
}

fn text(content: &Value) -> String {
    content.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_their_answers_are_told() {
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
        let messages = json!([
            {"role": "user", "content": "do"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ]);
        let told = tools_in_words(&messages, &tools);
        let first = told[0]["content"].as_str().unwrap();
        assert!(first.contains(r#"{"name":"f","parameters":{}}"#) && first.ends_with("\n\ndo"), "{first}");
        assert_eq!(told[1], json!({"role": "assistant", "content": r#"{"name":"f","arguments":{"x":1}}"#}));
        assert_eq!(told[2], json!({"role": "user", "content": "The tool answered: done"}));
        assert_eq!(tools_in_words(&messages, &Value::Null)[0], messages[0]);
    }
}
