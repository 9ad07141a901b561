//! One call of a tool, and the JSON that models write it in.

use super::scan::{elements, members};

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments: a JSON object, as the model wrote it.
    pub arguments: String,
}

/// The call in a JSON object, under any of the names that models give to its parts.
pub(super) fn of_object(text: &str) -> Option<ToolCall> {
    let members = members(text)?;
    let find = |names: &[&str]| {
        let found = members.iter().find(|(name, _)| names.contains(&name.as_str()));
        found.map(|(_, range)| &text[range.clone()])
    };
    let Some(named) = find(&["name", "tool_name"]) else { return of_object(find(&["function", "tool_call"])?) };
    let name: String = serde_json::from_str(named).ok()?;
    let arguments = match find(&["arguments", "parameters", "args", "input"]) {
        None | Some("null") => "{}".to_owned(),
        Some(object) if object.starts_with('{') => object.to_owned(),
        // Some write the object as a text.
        Some(text) => serde_json::from_str::<String>(text).ok().filter(|text| super::scan::members(text).is_some())?,
    };
    (!name.is_empty()).then_some(ToolCall { name, arguments })
}

/// The calls in a JSON object, or in a list of such.
pub(super) fn of_json(text: &str) -> Option<Vec<ToolCall>> {
    if !text.trim_start().starts_with('[') {
        return Some(vec![of_object(text)?]);
    }
    let calls: Vec<ToolCall> = elements(text)?.into_iter().map(of_object).collect::<Option<_>>()?;
    (!calls.is_empty()).then_some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stay_as_they_were_written() {
        let call = |text: &str| of_object(text).map(|call| (call.name, call.arguments));
        let is = |arguments: &str| Some(("f".to_owned(), arguments.to_owned()));
        assert_eq!(
            call(r#"{"name": "f", "arguments": {"x": 1.50,"y":12345678901234567890123}}"#),
            is(r#"{"x": 1.50,"y":12345678901234567890123}"#)
        );
        assert_eq!(call(r#"{"type": "function", "function": {"name": "f", "parameters": {}}}"#), is("{}"));
        assert_eq!(call(r#"{"arguments": "{\"x\": 1}", "name": "f"}"#), is(r#"{"x": 1}"#));
        assert_eq!(call(r#"{"name": "f"}"#), is("{}"));
        for wrong in [r#"{"name": 1}"#, r#"{"x": 1}"#, r#"{"name": "f", "arguments": 3}"#, r#"{"name": ""}"#, "[]", "x"]
        {
            assert_eq!(call(wrong), None, "{wrong}");
        }
        assert_eq!(of_json(r#"[{"name": "f"}, {"name": "g"}]"#).unwrap().len(), 2);
        assert_eq!(of_json(r#"[{"name": "f"}, 1]"#), None);
    }
}
