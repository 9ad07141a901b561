//! JSON text as Python's `json.dumps` writes it.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::{Serializer, Value, ser::Formatter};

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
    let mut value = value.clone();
    if style.sort_keys {
        value.sort_all_objects();
    }
    let mut text = Vec::new();
    let python = Python { style, between, after_key, depth: 0, empty: true };
    // A `Value` has string keys and finite numbers, and a `Vec` takes all bytes: there is nothing that could fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut text, python));
    String::from_utf8_lossy(&text).into_owned()
}

struct Python<'a> {
    style: &'a Style,
    between: &'a str,
    after_key: &'a str,
    depth: usize,
    /// Whether the list or object that was begun last has nothing in it yet.
    empty: bool,
}

impl Python<'_> {
    fn begin(&mut self, to: &mut (impl Write + ?Sized), bracket: &str) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        to.write_all(bracket.as_bytes())
    }

    fn begin_item(&mut self, to: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            to.write_all(self.between.as_bytes())?;
        }
        self.new_line(to)
    }

    fn end(&mut self, to: &mut (impl Write + ?Sized), bracket: &str) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line(to)?;
        }
        self.empty = false;
        to.write_all(bracket.as_bytes())
    }

    fn new_line(&self, to: &mut (impl Write + ?Sized)) -> io::Result<()> {
        match &self.style.indent {
            Some(indent) => write!(to, "\n{}", indent.repeat(self.depth)),
            None => Ok(()),
        }
    }
}

impl Formatter for Python<'_> {
    fn write_f64<W: Write + ?Sized>(&mut self, to: &mut W, number: f64) -> io::Result<()> {
        to.write_all(float(number).as_bytes())
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, to: &mut W, text: &str) -> io::Result<()> {
        if !self.style.ensure_ascii || text.is_ascii() {
            return to.write_all(text.as_bytes());
        }
        for character in text.chars() {
            if character.is_ascii() {
                write!(to, "{character}")?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn begin_array<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.begin(to, "[")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(to, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn end_array<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.end(to, "]")
    }

    fn begin_object<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.begin(to, "{")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(to, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(self.after_key.as_bytes())
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn end_object<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.end(to, "}")
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
        let nested = dumps(&json!([[], {"a": [[]]}]), &Style { indent: Some(" ".into()), ..style() });
        assert_eq!(nested, "[\n [],\n {\n  \"a\": [\n   []\n  ]\n }\n]");
        let compact = Style { ensure_ascii: true, separators: Some((",".into(), ":".into())), ..style() };
        assert_eq!(dumps(&json!({"k": "é𝄞"}), &compact), r#"{"k":"\u00e9\ud834\udd1e"}"#);
    }
}
