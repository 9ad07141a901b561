//! A document against an OpenAPI schema: every fault, with a word on how to mend it.

use serde_json::Value;

use super::node::{Content, Node};

/// A fault within a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SchemaFault {
    pub(super) line: u64,
    pub(super) field: String,
    pub(super) message: String,
}

/// Every place where `node` is not what `schema` says.
pub(super) fn check(node: &Node, schema: &Value) -> Vec<SchemaFault> {
    let mut checker = Checker { faults: Vec::new() };
    checker.node("", node.line, node, schema);
    checker.faults
}

struct Checker {
    faults: Vec<SchemaFault>,
}

impl Checker {
    fn fault(&mut self, line: u64, field: &str, message: String) {
        self.faults.push(SchemaFault { line, field: field.to_owned(), message });
    }

    fn node(&mut self, path: &str, line: u64, node: &Node, schema: &Value) {
        if node.content == Content::Null {
            if schema["nullable"] != true {
                self.fault(line, path, format!("has no value: give {}, or remove the line", wanted(schema)));
            }
            return;
        }
        if schema["x-kubernetes-int-or-string"] == true {
            if !matches!(node.content, Content::Integer(_) | Content::Text(_)) {
                self.mismatch(path, line, node, "a quantity such as 512Mi");
            }
            return;
        }
        if schema["x-lime-quantity"] == true {
            if !matches!(node.content, Content::Integer(_) | Content::Float(_) | Content::Text(_)) {
                self.mismatch(path, line, node, &wanted(schema));
            }
            return;
        }
        match (schema["type"].as_str(), &node.content) {
            (Some("object"), Content::Map(entries)) => self.map(path, line, entries, schema),
            (Some("array"), Content::List(items)) => {
                self.count("entries", items.len(), path, line, schema);
                for (index, item) in items.iter().enumerate() {
                    self.node(&format!("{path}[{index}]"), item.line, item, &schema["items"]);
                }
            }
            (Some("string"), Content::Text(text)) => self.text(path, line, text, schema),
            (Some("integer"), Content::Integer(value)) => self.integer(path, line, *value, schema),
            (Some("boolean"), Content::Bool(_)) | (None, _) => {}
            (Some("number"), Content::Integer(_) | Content::Float(_)) => {}
            (Some(_), _) => self.mismatch(path, line, node, &wanted(schema)),
        }
    }

    fn mismatch(&mut self, path: &str, line: u64, node: &Node, wanted: &str) {
        let found = match &node.content {
            Content::Null => "nothing".to_owned(),
            Content::Bool(value) => format!("{value}"),
            Content::Integer(value) => format!("the number {value}"),
            Content::Float(value) => format!("the number {value}"),
            Content::Text(text) => format!("{text:?}"),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
        };
        let scalar = matches!(node.content, Content::Bool(_) | Content::Integer(_) | Content::Float(_));
        let quotes = if scalar && wanted.starts_with("text") { ": put it in quotes" } else { "" };
        self.fault(line, path, format!("expected {wanted}, found {found}{quotes}"));
    }

    fn map(&mut self, path: &str, line: u64, entries: &[(String, u64, Node)], schema: &Value) {
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let properties = schema["properties"].as_object();
        for (name, line, node) in entries {
            let known = properties.and_then(|properties| properties.get(name));
            match (known, &schema["additionalProperties"]) {
                (Some(property), _) => self.node(&join(name), *line, node, property),
                (None, Value::Object(_)) => self.node(&join(name), *line, node, &schema["additionalProperties"]),
                // What every object has; the API server's own business.
                (None, _) if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) => {}
                (None, Value::Bool(true)) => {}
                (None, _) if properties.is_none() => {}
                (None, _) => {
                    let names = properties.into_iter().flat_map(|properties| properties.keys());
                    self.fault(*line, &join(name), unknown(name, names.map(String::as_str)));
                }
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !entries.iter().any(|(found, ..)| found == name)) {
            let property = properties.and_then(|properties| properties.get(name)).unwrap_or(&Value::Null);
            self.fault(line, &join(name), format!("is missing: give {}", wanted(property)));
        }
    }

    fn text(&mut self, path: &str, line: u64, text: &str, schema: &Value) {
        if let Some(values) = schema["enum"].as_array() {
            let names: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            if !names.contains(&text) {
                let near = nearest(text, names.iter().copied());
                let hint = near.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
                self.fault(line, path, format!("must be {}, not {text:?}{hint}", either(&names)));
            }
            return;
        }
        self.count("characters", text.chars().count(), path, line, schema);
    }

    fn count(&mut self, what: &str, count: usize, path: &str, line: u64, schema: &Value) {
        let (least, most) = match what {
            "entries" => (&schema["minItems"], &schema["maxItems"]),
            _ => (&schema["minLength"], &schema["maxLength"]),
        };
        let count = count as u64;
        if least.as_u64().is_some_and(|least| count < least) {
            let message =
                if count == 0 { "must not be empty".to_owned() } else { format!("needs {least} {what} or more") };
            self.fault(line, path, message);
        }
        if most.as_u64().is_some_and(|most| count > most) {
            self.fault(line, path, format!("has {count} {what}, at most {most} are allowed"));
        }
    }

    fn integer(&mut self, path: &str, line: u64, value: i64, schema: &Value) {
        let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
        // The format bounds what the schema does not.
        let (low, high) = match schema["format"].as_str() {
            Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        let (least, most) = (bound("minimum").unwrap_or(low), bound("maximum").unwrap_or(high));
        if value < least || value > most {
            let message = match (bound("minimum"), bound("maximum")) {
                (Some(least), None) => format!("must be {least} or more, not {value}"),
                _ => format!("must be from {least} to {most}, not {value}"),
            };
            self.fault(line, path, message);
        }
    }
}

/// What a schema asks for, in words.
fn wanted(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let names: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return either(&names);
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "a quantity such as 512Mi".to_owned();
    }
    if schema["x-lime-quantity"] == true {
        return "a number with its unit".to_owned();
    }
    let name = match schema["type"].as_str() {
        Some("object") => "a map of fields",
        Some("array") => "a list",
        Some("string") => "text",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        _ => "a value",
    };
    name.to_owned()
}

fn either(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("unknown field; did you mean {near}?"),
        None => format!("unknown field; known here: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let score = |candidate: &str| strsim::jaro_winkler(&lower, &candidate.to_lowercase());
    known
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
