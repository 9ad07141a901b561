//! JSON schemas, brought into the form that the library keeps to exactly.

use llguidance::JsonCompileOptions;
use serde_json::{Map, Value};

use crate::error::GrammarError;

/// Between the tokens of JSON: a space, or a new line with its indentation. Without an end a model can go on for ever with it.
const SPACE: &str = r"\x20|\r?\n[\x20\t]{0,40}";
/// Where the library's own settings are looked for. They are this server's to make.
const SETTINGS: &str = "x-guidance";
/// Formats that are kept to. Any other is a note for people, as JSON Schema has it.
const FORMATS: [&str; 11] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown"];
/// Keywords whose values are data and no schemas.
const DATA: [&str; 5] = ["enum", "const", "default", "examples", "required"];

/// Values within values of a schema.
const DEEPEST: usize = 64;

/// Whether values lie at most `most` deep in each other. The parser of bodies has a bound of its own, which is higher.
fn no_deeper(value: &Value, most: usize) -> bool {
    match value {
        Value::Array(list) => most > 0 && list.iter().all(|value| no_deeper(value, most - 1)),
        Value::Object(map) => most > 0 && map.values().all(|value| no_deeper(value, most - 1)),
        _ => true,
    }
}

/// The schema with this server's settings, where it is shallow enough to be looked at.
pub(crate) fn checked(schema: &Value) -> Result<Value, GrammarError> {
    if no_deeper(schema, DEEPEST) {
        prepared(schema)
    } else {
        Err(GrammarError::Deep { what: "a schema", most: DEEPEST })
    }
}

fn prepared(schema: &Value) -> Result<Value, GrammarError> {
    let mut schema = match schema {
        Value::Object(map) => map.clone(),
        Value::Bool(true) => Map::new(),
        Value::Bool(false) => return Err(GrammarError::Form("a schema that nothing keeps to".into())),
        _ => return Err(GrammarError::Form("a schema is an object, or true".into())),
    };
    schema.remove(SETTINGS);
    let mut schema = Value::Object(schema);
    drop_notes(&mut schema);
    JsonCompileOptions { whitespace_pattern: Some(SPACE.into()), ..JsonCompileOptions::default() }
        .apply_to(&mut schema);
    Ok(schema)
}

/// Takes out formats that are notes, wherever a schema may stand.
fn drop_notes(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(drop_notes),
        Value::Object(map) => {
            let noted = |format: &Value| format.as_str().is_some_and(|format| !FORMATS.contains(&format));
            if map.get("format").is_some_and(noted) {
                map.shift_remove("format");
            }
            map.iter_mut().filter(|(name, _)| !DATA.contains(&name.as_str())).for_each(|(_, value)| drop_notes(value));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_that_are_notes_go_and_data_stays() {
        let schema = json!({"properties": {
            "format": {"type": "string", "format": "binary"}, "day": {"format": "date"},
            "fixed": {"enum": [{"format": "binary"}]},
        }, "x-guidance": {"lenient": true}});
        let mut schema = prepared(&schema).unwrap();
        assert_eq!(schema["x-guidance"]["lenient"], false);
        schema.as_object_mut().unwrap().remove("x-guidance");
        let expected = json!({"properties": {
            "format": {"type": "string"}, "day": {"format": "date"}, "fixed": {"enum": [{"format": "binary"}]},
        }});
        assert_eq!(schema, expected);
        assert!(prepared(&json!(false)).is_err() && prepared(&json!([])).is_err() && prepared(&json!(true)).is_ok());
    }

    #[test]
    fn depth_is_counted() {
        let mut deep = json!(1);
        for _ in 0..5 {
            deep = json!([{"x": deep}]);
        }
        assert!(no_deeper(&deep, 10) && !no_deeper(&deep, 9));
    }
}
