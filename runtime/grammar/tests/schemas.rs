//! Random schemas: whatever is drawn keeps to its schema, by a judge of the test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{End, compiled, drawn, grammars, text};
use fastrand::Rng;
use lime_grammar::Form;
use serde_json::{Map, Value, json};

/// A schema of what comes to an end.
fn schema(random: &mut Rng, depth: usize) -> Value {
    match random.u8(..if depth == 0 { 6 } else { 9 }) {
        0 => json!({"type": "boolean"}),
        1 => json!({"type": "null"}),
        2 => {
            let least = random.i32(-50..50);
            json!({"type": "integer", "minimum": least, "maximum": least + random.i32(0..300)})
        }
        3 => {
            let shortest = random.u8(..3);
            json!({"type": "string", "minLength": shortest, "maxLength": shortest + random.u8(..6)})
        }
        4 => json!({"enum": (0..random.u8(1..4)).map(|_| constant(random)).collect::<Vec<_>>()}),
        5 => json!({"const": constant(random)}),
        6 => {
            let fewest = random.u8(..2);
            json!({"type": "array", "items": schema(random, depth - 1), "minItems": fewest, "maxItems": fewest + random.u8(..3)})
        }
        7 => {
            let names: Vec<String> = (0..random.u8(..4)).map(|n| format!("{}{n}", name(random))).collect();
            let required: Vec<&String> = names.iter().filter(|_| random.bool()).collect();
            let mut object = json!({"type": "object", "additionalProperties": false, "required": required});
            let properties: Map<String, Value> =
                names.iter().map(|name| (name.clone(), schema(random, depth - 1))).collect();
            object["properties"] = properties.into();
            object
        }
        _ => json!({"anyOf": [schema(random, depth - 1), schema(random, depth - 1)]}),
    }
}

fn name(random: &mut Rng) -> &'static str {
    ["name", "age", "ключ", "a b", "x\"y", "é", ""][random.usize(..7)]
}

fn constant(random: &mut Rng) -> Value {
    match random.u8(..6) {
        0 => json!(random.i32(-9..99)),
        1 => json!(null),
        2 => json!(name(random)),
        3 => json!([random.bool(), name(random)]),
        4 => json!({"k": random.u8(..)}),
        _ => json!(random.bool()),
    }
}

/// Whether a value keeps to such a schema.
fn keeps(schema: &Value, value: &Value) -> bool {
    let number = |name: &str| schema[name].as_i64();
    if let Some(options) = schema["anyOf"].as_array() {
        return options.iter().any(|option| keeps(option, value));
    }
    if let Some(options) = schema["enum"].as_array() {
        return options.contains(value);
    }
    if let Some(constant) = schema.get("const") {
        return constant == value;
    }
    match schema["type"].as_str().unwrap() {
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.as_i64().is_some_and(|n| n >= number("minimum").unwrap() && n <= number("maximum").unwrap()),
        "string" => value.as_str().is_some_and(|text| {
            let length = text.chars().count() as i64;
            length >= number("minLength").unwrap() && length <= number("maxLength").unwrap()
        }),
        "array" => value.as_array().is_some_and(|list| {
            let length = list.len() as i64;
            length >= number("minItems").unwrap()
                && length <= number("maxItems").unwrap()
                && list.iter().all(|value| keeps(&schema["items"], value))
        }),
        "object" => value.as_object().is_some_and(|object| {
            let required = schema["required"].as_array().unwrap();
            required.iter().all(|name| object.contains_key(name.as_str().unwrap()))
                && object
                    .iter()
                    .all(|(name, value)| schema["properties"].get(name).is_some_and(|schema| keeps(schema, value)))
        }),
        other => panic!("{other}"),
    }
}

#[test]
fn whatever_is_drawn_keeps_to_its_schema() {
    let (grammars, mut random) = (grammars(), Rng::with_seed(11));
    let mut whole = 0;
    for _ in 0..300 {
        let schema = schema(&mut random, 3);
        let grammar = compiled(&grammars, &Form::JsonSchema(schema.clone()));
        for _ in 0..3 {
            let (tokens, end) = drawn(grammar.matcher(), &mut random, 400);
            if end == End::Cut {
                continue;
            }
            whole += 1;
            let text = text(&tokens);
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{schema}: {text:?}: {fault}"));
            assert!(keeps(&schema, &value), "{schema}: {text}");
        }
    }
    assert!(whole > 800, "{whole} of 900 came to an end");
}
