//! What a request asks of the form of its answer: as the OpenAI API has it, or as vLLM and llama.cpp do.

use std::sync::Arc;

use lime_grammar::{Form, Grammar, Matcher, Part};
use serde_json::{Map, Value};

use super::{
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
};
use crate::text::TextModel;

/// Names under which a form is asked for.
pub(super) const FORMS: [&str; 8] = [
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "json_schema",
    "grammar",
];

/// The grammar of a request's answers.
#[derive(Clone, Debug)]
pub(crate) struct AnswerGrammar {
    grammar: Arc<Grammar>,
    /// What stands between thoughts, which may be any, and the text that has the form.
    after: Option<&'static str>,
}

impl AnswerGrammar {
    pub(super) fn new(grammar: Grammar) -> Self {
        Self { grammar: Arc::new(grammar), after: None }
    }

    /// For one answer.
    pub(crate) fn matcher(&self) -> Matcher {
        match self.after {
            None => self.grammar.matcher(),
            Some(mark) => self.grammar.matcher_after(mark),
        }
    }

    /// The same for answers that begin with thoughts, which end with `mark`.
    #[must_use]
    pub(super) fn after(self, mark: &'static str) -> Self {
        Self { after: Some(mark), ..self }
    }
}

/// What a request asks of its answer's form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AskedForm {
    /// The field that asks.
    param: String,
    form: Form,
}

impl AskedForm {
    /// Its grammar.
    pub(super) fn compiled(&self, text: &TextModel) -> Result<AnswerGrammar, ApiError> {
        let compiled = text.grammars().and_then(|grammars| grammars.compile(&self.form));
        compiled.map(AnswerGrammar::new).map_err(|fault| ApiError::grammar(&self.param, &fault))
    }

    /// The form as one of the things that an answer may be.
    pub(super) fn part(self) -> Result<Part, ApiError> {
        match self.form {
            Form::JsonObject => Ok(Part::Json(serde_json::json!({"type": "object"}))),
            Form::JsonSchema(schema) => Ok(Part::Json(schema)),
            Form::Regex(expression) => Ok(Part::Regex(expression)),
            Form::Choice(choices) => Ok(Part::Either(choices.into_iter().map(Part::Text).collect())),
            Form::Parts(part) => Ok(part),
            Form::Lark(_) => Err(ApiError::unsupported(&self.param, "not beside tools that may be called")),
        }
    }
}

/// The form that a request asks for, if any.
pub(super) fn read(fields: Fields<'_>) -> Result<Option<AskedForm>, ApiError> {
    let mut found: Option<AskedForm> = None;
    for name in FORMS {
        let Some(value) = fields.get(name) else { continue };
        let Some((param, form)) = one(name, value)? else { continue };
        // Some say the same under the names of two versions.
        if let Some(other) = found.as_ref().filter(|other| other.form != form) {
            return Err(wrong_value(&param, format!("'{}' asks for a form too, and an answer has one", other.param)));
        }
        found = Some(AskedForm { param, form });
    }
    Ok(found)
}

fn one(name: &str, value: &Value) -> Result<Option<(String, Form)>, ApiError> {
    match name {
        "response_format" => response_format(object(name, value)?),
        "structured_outputs" => structured(object(name, value)?),
        "guided_json" | "json_schema" => Ok(Some((name.into(), schema(name, value)?))),
        "guided_regex" => Ok(Some((name.into(), Form::Regex(text(name, value)?)))),
        "guided_choice" => Ok(Some((name.into(), Form::Choice(choice(name, value)?)))),
        // An empty one is llama.cpp's way of having none.
        _ if value == "" => Ok(None),
        _ => Ok(Some((name.into(), Form::Lark(text(name, value)?)))),
    }
}

/// As the OpenAI API has it.
fn response_format(format: &Map<String, Value>) -> Result<Option<(String, Form)>, ApiError> {
    let name = "response_format";
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        // llama.cpp takes a schema beside it.
        Some("json_object") => match format.get("schema") {
            None | Some(Value::Null) => Ok(Some((name.into(), Form::JsonObject))),
            Some(given) => Ok(Some(("response_format.schema".into(), schema("response_format.schema", given)?))),
        },
        Some("json_schema") => {
            let within = format.get("json_schema").filter(|within| within.is_object());
            let path = "response_format.json_schema.schema";
            let given = within.map_or_else(|| format.get("schema"), |within| within.get("schema"));
            let missing = || {
                let message = format!("Missing required parameter: '{path}'.");
                ApiError::invalid(path, "missing_required_parameter", message)
            };
            let given = given.filter(|given| !given.is_null()).ok_or_else(missing)?;
            Ok(Some((path.into(), schema(path, given)?)))
        }
        other => {
            let other = other.unwrap_or_default();
            let what = format!("its type is {other:?}, and one of text, json_object and json_schema is known");
            Err(ApiError::unsupported(name, &what))
        }
    }
}

/// As vLLM has it.
fn structured(wish: &Map<String, Value>) -> Result<Option<(String, Form)>, ApiError> {
    let mut found = None;
    for (key, value) in wish.iter().filter(|(_, value)| !value.is_null()) {
        let path = format!("structured_outputs.{key}");
        let form = match key.as_str() {
            "json" => schema(&path, value)?,
            "regex" => Form::Regex(text(&path, value)?),
            "choice" => Form::Choice(choice(&path, value)?),
            "grammar" => Form::Lark(text(&path, value)?),
            "json_object" if *value == true => Form::JsonObject,
            "json_object" => continue,
            // How to get there, which is this server's business, and what it does anyway.
            "disable_fallback" | "disable_any_whitespace" | "disable_additional_properties" | "whitespace_pattern"
                if matches!(value, Value::Bool(false)) =>
            {
                continue;
            }
            _ => return Err(ApiError::unsupported(&path, "json, regex, choice, grammar and json_object are")),
        };
        if found.replace((path, form)).is_some() {
            return Err(wrong_value("structured_outputs", "it asks for two forms, and an answer has one"));
        }
    }
    Ok(found)
}

/// A schema, or the text of one.
fn schema(path: &str, value: &Value) -> Result<Form, ApiError> {
    match value {
        Value::String(text) => {
            let schema = serde_json::from_str(text).map_err(|fault| wrong_value(path, format!("no JSON: {fault}")))?;
            Ok(Form::JsonSchema(schema))
        }
        Value::Object(_) | Value::Bool(_) => Ok(Form::JsonSchema(value.clone())),
        other => Err(wrong_type(path, "a JSON schema", other)),
    }
}

fn choice(path: &str, value: &Value) -> Result<Vec<String>, ApiError> {
    let fault = || wrong_type(path, "an array of strings", value);
    value.as_array().ok_or_else(fault)?.iter().map(|one| Ok(one.as_str().ok_or_else(fault)?.to_owned())).collect()
}

fn text(path: &str, value: &Value) -> Result<String, ApiError> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong_type(path, "a string", value))
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a Map<String, Value>, ApiError> {
    value.as_object().ok_or_else(|| wrong_type(path, "an object", value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: &Value) -> Result<Option<Form>, ApiError> {
        Ok(read(Fields::of_body(body).unwrap())?.map(|asked| asked.form))
    }

    #[test]
    fn every_way_of_asking_gives_its_form() {
        let schema = json!({"type": "object"});
        let of_schema = || Form::JsonSchema(schema.clone());
        for (body, expected) in [
            (json!({"response_format": {"type": "json_object"}}), Form::JsonObject),
            (json!({"response_format": {"type": "json_object", "schema": schema}}), of_schema()),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}}}),
                of_schema(),
            ),
            (json!({"response_format": {"type": "json_schema", "name": "x", "schema": schema}}), of_schema()),
            (json!({"guided_json": schema.to_string()}), of_schema()),
            (json!({"json_schema": schema}), of_schema()),
            (json!({"guided_regex": "a+"}), Form::Regex("a+".into())),
            (json!({"guided_choice": ["a", "b"]}), Form::Choice(vec!["a".into(), "b".into()])),
            (json!({"guided_grammar": "start: \"a\""}), Form::Lark("start: \"a\"".into())),
            (json!({"structured_outputs": {"choice": ["a"], "regex": null}}), Form::Choice(vec!["a".into()])),
            (json!({"structured_outputs": {"json": schema}}), of_schema()),
            (json!({"structured_outputs": {"json_object": true}}), Form::JsonObject),
            (json!({"guided_regex": "a+", "structured_outputs": {"regex": "a+"}}), Form::Regex("a+".into())),
        ] {
            assert_eq!(of(&body).unwrap(), Some(expected), "{body}");
        }
        for nothing in [
            json!({}),
            json!({"response_format": {"type": "text"}}),
            json!({"structured_outputs": {}, "grammar": "", "guided_json": null}),
        ] {
            assert_eq!(of(&nothing), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn what_is_no_form_is_named() {
        for (body, param) in [
            (json!({"response_format": {"type": "xml"}}), "'response_format'"),
            (json!({"response_format": {"type": "json_schema"}}), "'response_format.json_schema.schema'"),
            (json!({"response_format": []}), "'response_format'"),
            (json!({"guided_json": "{"}), "'guided_json'"),
            (json!({"guided_json": 3}), "'guided_json'"),
            (json!({"guided_choice": ["a", 1]}), "'guided_choice'"),
            (json!({"structured_outputs": {"structural_tag": "x"}}), "'structured_outputs.structural_tag'"),
            (json!({"structured_outputs": {"json": {}, "regex": "a"}}), "'structured_outputs'"),
            (json!({"guided_regex": "a", "response_format": {"type": "json_object"}}), "'guided_regex'"),
        ] {
            let message = of(&body).unwrap_err().message;
            assert!(message.contains(param), "{body}: {message}");
        }
    }
}
