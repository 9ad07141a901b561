//! Tools that a chat offers its model, and how free it is to call them.

use serde_json::{Map, Value, json};

use crate::http::{
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
};

const MOST: usize = 512;
const LONGEST_NAME: usize = 256;

/// What is offered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tools {
    /// In the form that templates read.
    pub(crate) list: Value,
    pub(crate) names: Vec<String>,
    /// Of each, whether its arguments must keep to its schema.
    pub(crate) strict: Vec<bool>,
    pub(crate) choice: Choice,
    /// Whether one answer may have several calls.
    pub(crate) parallel: bool,
}

/// How free the model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It may call tools.
    Auto,
    /// It must call one.
    Any,
    /// It must call this one.
    Named(String),
}

/// The tools of a request; none where there are none, or where they may not be called.
pub(super) fn read(fields: Fields<'_>) -> Result<Option<Tools>, ApiError> {
    let list = match fields.get("tools") {
        None => &[][..],
        Some(Value::Array(list)) => list.as_slice(),
        Some(other) => return Err(wrong_type("tools", "an array of tools", other)),
    };
    if list.len() > MOST {
        return Err(wrong_value("tools", format!("at most {MOST} tools are taken, but got {}", list.len())));
    }
    let strict = list.iter().map(is_strict).collect();
    let tools: Vec<(String, Value)> =
        list.iter().enumerate().map(|(place, tool)| one(place, tool)).collect::<Result<_, _>>()?;
    let (names, list): (Vec<String>, Vec<Value>) = tools.into_iter().unzip();
    let choice = choice(fields, &names)?;
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    let Some(choice) = choice else { return Ok(None) };
    Ok((!names.is_empty()).then(|| Tools { list: list.into(), names, strict, choice, parallel }))
}

/// Whether a tool, which may be written in either way, asks for arguments that keep to its schema.
fn is_strict(tool: &Value) -> bool {
    tool.get("function").unwrap_or(tool).get("strict") == Some(&Value::Bool(true))
}

impl Tools {
    /// The schema of a tool's arguments: of an object in any case.
    pub(super) fn schema(&self, place: usize) -> Value {
        let mut schema = self.list[place]["function"]["parameters"].clone();
        if let Some(schema) = schema.as_object_mut() {
            schema.entry("type").or_insert_with(|| "object".into());
        }
        schema
    }
}

/// A tool's name, and the tool in the form that templates read.
fn one(place: usize, tool: &Value) -> Result<(String, Value), ApiError> {
    let path = format!("tools[{place}]");
    let object = tool.as_object().ok_or_else(|| wrong_type(&path, "an object", tool))?;
    match object.get("type").and_then(Value::as_str) {
        None | Some("function") => {}
        Some(other) => {
            let what = format!(
                "tools of type {other:?} run on a server of their own: here a client's functions can be called"
            );
            return Err(ApiError::unsupported(&path, &what));
        }
    }
    // The newer API writes what a function is beside its type.
    let path = if object.contains_key("function") { format!("{path}.function") } else { path };
    let function = object.get("function").unwrap_or(tool);
    let function = function.as_object().ok_or_else(|| wrong_type(&path, "an object", function))?;
    let name_path = format!("{path}.name");
    let name = match function.get("name") {
        Some(Value::String(name)) if !name.is_empty() && name.len() <= LONGEST_NAME => name.clone(),
        Some(Value::String(_)) => {
            return Err(wrong_value(&name_path, format!("a name has from 1 to {LONGEST_NAME} bytes")));
        }
        Some(other) => return Err(wrong_type(&name_path, "a string", other)),
        None => {
            let message = format!("Missing required parameter: '{name_path}'.");
            return Err(ApiError::invalid(&name_path, "missing_required_parameter", message));
        }
    };
    match function.get("parameters") {
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(other) => return Err(wrong_type(&format!("{path}.parameters"), "an object", other)),
    }
    // Templates print what they are given: it is what clients of the older API write.
    let known = ["name", "description", "parameters", "strict"];
    let mut written: Map<String, Value> =
        known.iter().filter_map(|key| Some(((*key).to_owned(), function.get(*key)?.clone()))).collect();
    written.retain(|_, value| !value.is_null());
    // Many templates look at them whatever they are.
    written.entry("description").or_insert_with(|| "".into());
    written.entry("parameters").or_insert_with(|| json!({"type": "object", "properties": {}}));
    written.remove("strict");
    Ok((name, json!({"type": "function", "function": written})))
}

/// What `tool_choice` says; `None`: nothing may be called.
fn choice(fields: Fields<'_>, names: &[String]) -> Result<Option<Choice>, ApiError> {
    let expected = "\"auto\", \"none\", \"required\" or a function that is named";
    let required = |choice| {
        if names.is_empty() {
            Err(wrong_value("tool_choice", "it needs 'tools' to choose from"))
        } else {
            Ok(Some(choice))
        }
    };
    match fields.get("tool_choice") {
        None => Ok(Some(Choice::Auto)),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Some(Choice::Auto)),
            "none" => Ok(None),
            "required" | "any" => required(Choice::Any),
            other => Err(wrong_value("tool_choice", format!("{other:?} is not {expected}"))),
        },
        Some(Value::Object(choice)) => {
            let name = choice.get("function").and_then(|function| function.get("name")).or_else(|| choice.get("name"));
            let Some(name) = name.and_then(Value::as_str) else {
                return Err(wrong_value("tool_choice", format!("expected {expected}")));
            };
            if !names.iter().any(|known| known == name) {
                return Err(wrong_value("tool_choice", format!("{name:?} is none of the 'tools'")));
            }
            required(Choice::Named(name.to_owned()))
        }
        Some(other) => Err(wrong_type("tool_choice", expected, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &Value) -> Result<Option<Tools>, ApiError> {
        read(Fields::of_body(body).unwrap())
    }

    #[test]
    fn tools_are_brought_into_one_form() {
        let older =
            json!({"type": "function", "function": {"name": "f", "strict": true, "parameters": {"type": "object"}}});
        let newer = json!({"type": "function", "name": "g", "description": "d", "parameters": null});
        let tools =
            of(&json!({"tools": [older, newer], "tool_choice": {"type": "function", "name": "g"}})).unwrap().unwrap();
        assert_eq!(
            (tools.strict.as_slice(), tools.schema(1)),
            ([true, false].as_slice(), json!({"type": "object", "properties": {}}))
        );
        assert_eq!(
            (tools.names, tools.choice, tools.parallel),
            (vec!["f".into(), "g".into()], Choice::Named("g".into()), true)
        );
        assert_eq!(
            tools.list[0]["function"],
            json!({"name": "f", "parameters": {"type": "object"}, "description": ""})
        );
        assert_eq!(tools.list[1]["function"]["parameters"], json!({"type": "object", "properties": {}}));
        for nothing in [json!({}), json!({"tools": []}), json!({"tools": [older], "tool_choice": "none"})] {
            assert_eq!(of(&nothing), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn what_is_no_tool_is_named() {
        let tool = json!({"type": "function", "function": {"name": "f"}});
        for (body, param) in [
            (json!({"tools": {}}), "tools"),
            (json!({"tools": [tool, 1]}), "tools[1]"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0]"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
            (json!({"tools": [{"type": "function", "function": {"name": ""}}]}), "tools[0].function.name"),
            (json!({"tools": [{"function": {"name": "f", "parameters": []}}]}), "tools[0].function.parameters"),
            (json!({"tools": [tool], "tool_choice": "sometimes"}), "tool_choice"),
            (json!({"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "g"}}}), "tool_choice"),
            (json!({"tools": [], "tool_choice": "required"}), "tool_choice"),
        ] {
            let error = of(&body).unwrap_err();
            assert!(error.message.contains(param), "{body}: {}", error.message);
        }
    }
}
