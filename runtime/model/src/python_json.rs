//! JSON text as Python's `json.dumps` writes it.

use serde_json::Value;

/// The arguments of `json.dumps` that templates use.
pub(crate) struct Style {
    pub(crate) ensure_ascii: bool,
    pub(crate) indent: Option<String>,
    pub(crate) separators: Option<(String, String)>,
    pub(crate) sort_keys: bool,
}

pub(crate) fn dumps(value: &Value, style: &Style) -> String {
    let (between, after_key) = match (&style.separators, &style.indent) {
        (Some((between, after_key)), _) => (between.as_str(), after_key.as_str()),
        (None, Some(_)) => (",", ": "),
        (None, None) => (", ", ": "),
    };
    let mut writer = Writer { style, between, after_key, text: String::new() };
    writer.write(value, 0);
    writer.text
}

struct Writer<'a> {
    style: &'a Style,
    between: &'a str,
    after_key: &'a str,
    text: String,
}

impl Writer<'_> {
    fn write(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(flag) => self.text.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) if number.is_f64() => {
                self.text.push_str(&float(number.as_f64().unwrap_or_default()));
            }
            Value::Number(number) => self.text.push_str(&number.to_string()),
            Value::String(text) => self.write_text(text),
            Value::Array(items) if items.is_empty() => self.text.push_str("[]"),
            Value::Object(fields) if fields.is_empty() => self.text.push_str("{}"),
            Value::Array(items) => {
                self.text.push('[');
                for (place, item) in items.iter().enumerate() {
                    self.begin_item(place, depth);
                    self.write(item, depth + 1);
                }
                self.end_items(']', depth);
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                if self.style.sort_keys {
                    fields.sort_by_key(|(key, _)| *key);
                }
                self.text.push('{');
                for (place, (key, field)) in fields.into_iter().enumerate() {
                    self.begin_item(place, depth);
                    self.write_text(key);
                    self.text.push_str(self.after_key);
                    self.write(field, depth + 1);
                }
                self.end_items('}', depth);
            }
        }
    }

    fn begin_item(&mut self, place: usize, depth: usize) {
        if place > 0 {
            self.text.push_str(self.between);
        }
        self.new_line(depth + 1);
    }

    fn end_items(&mut self, bracket: char, depth: usize) {
        self.new_line(depth);
        self.text.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }

    fn write_text(&mut self, text: &str) {
        let quoted = Value::from(text).to_string();
        if !self.style.ensure_ascii {
            return self.text.push_str(&quoted);
        }
        for character in quoted.chars() {
            if character.is_ascii() {
                self.text.push(character);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                self.text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

/// A float as Python's `repr`: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = number.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn style() -> Style {
        Style { ensure_ascii: false, indent: None, separators: None, sort_keys: false }
    }

    #[test]
    fn floats_are_pythons() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5, "-2.5"),
            (-0.0, "-0.0"),
            (0.0, "0.0"),
            (5e-324, "5e-324"),
        ];
        for (number, expected) in cases {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn styles_are_pythons() {
        let value = json!({"b": [1, "é<\n"], "a": {}, "c": [], "d": null});
        assert_eq!(dumps(&value, &style()), r#"{"b": [1, "é<\n"], "a": {}, "c": [], "d": null}"#);
        let indented = dumps(&value, &Style { indent: Some("  ".into()), sort_keys: true, ..style() });
        assert_eq!(
            indented,
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    \"é<\\n\"\n  ],\n  \"c\": [],\n  \"d\": null\n}"
        );
        let compact = Style { ensure_ascii: true, separators: Some((",".into(), ":".into())), ..style() };
        assert_eq!(dumps(&json!({"k": "é𝄞"}), &compact), r#"{"k":"\u00e9\ud834\udd1e"}"#);
    }
}
