//! Looking for marks and values in a text that is not all there yet.

use std::ops::Range;

use serde::de::IgnoredAny;

/// What a text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A whole JSON value of so many bytes.
    Whole(usize),
    /// What may become one.
    Cut,
    /// Nothing that could.
    None,
}

/// Looks for the JSON value that `text` begins with.
pub(super) fn value(text: &str) -> Value {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Value::Whole(values.byte_offset()),
        Some(Err(fault)) if fault.is_eof() => Value::Cut,
        None => Value::Cut,
        // A number that is cut in two counts as a wrong one.
        Some(Err(_)) if text.ends_with(['-', '+', '.', 'e', 'E']) => match value(&format!("{text}0")) {
            Value::Whole(_) | Value::Cut => Value::Cut,
            Value::None => Value::None,
        },
        Some(Err(_)) => Value::None,
    }
}

/// Where the members of a JSON object lie: their names, and the ranges of their values, as they are written.
pub(super) fn members(object: &str) -> Option<Vec<(String, Range<usize>)>> {
    let mut at = after(object, 0, '{')?;
    let mut found = Vec::new();
    if after(object, at, '}').is_some() {
        return Some(found);
    }
    loop {
        at = skip_space(object, at);
        let Value::Whole(length) = value(&object[at..]) else { return None };
        let name = serde_json::from_str(&object[at..at + length]).ok()?;
        at = skip_space(object, after(object, at + length, ':')?);
        let Value::Whole(length) = value(&object[at..]) else { return None };
        found.push((name, at..at + length));
        match after(object, at + length, ',') {
            Some(next) => at = next,
            None => return after(object, at + length, '}').map(|_| found),
        }
    }
}

/// The values of a JSON array, as they are written.
pub(super) fn elements(array: &str) -> Option<Vec<&str>> {
    let mut at = after(array, 0, '[')?;
    let mut found = Vec::new();
    if after(array, at, ']').is_some() {
        return Some(found);
    }
    loop {
        at = skip_space(array, at);
        let Value::Whole(length) = value(&array[at..]) else { return None };
        found.push(&array[at..at + length]);
        match after(array, at + length, ',') {
            Some(next) => at = next,
            None => return after(array, at + length, ']').map(|_| found),
        }
    }
}

/// The place after `mark`, which is next but for space.
fn after(text: &str, at: usize, mark: char) -> Option<usize> {
    let at = skip_space(text, at);
    text[at..].starts_with(mark).then_some(at + mark.len_utf8())
}

fn skip_space(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start().len()
}

/// Bytes of the longest end of `text` that begins `mark` without being all of it.
pub(super) fn overlap(text: &str, mark: &str) -> usize {
    let most = text.len().min(mark.len() - 1);
    (1..=most).rev().find(|length| mark.as_bytes().starts_with(&text.as_bytes()[text.len() - length..])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_they_are_written() {
        assert_eq!(value(r#"{"a": 1} tail"#), Value::Whole(8));
        assert_eq!((value(r#"{"a": "#), value(""), value("[1,")), (Value::Cut, Value::Cut, Value::Cut));
        assert_eq!((value("{a}"), value("x"), value("{e")), (Value::None, Value::None, Value::None));
        let number = r#"{"a": [-2.5e+3"#;
        for end in 1..=number.len() {
            assert_eq!(value(&number[..end]), Value::Cut, "{}", &number[..end]);
        }
        let object = r#" { "a" : 1.50 , "b\n": {"c": [1 , 2]} } "#;
        let found = members(object).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, range)| (name.as_str(), &object[range.clone()])).collect();
        assert_eq!(found, [("a", "1.50"), ("b\n", r#"{"c": [1 , 2]}"#)]);
        assert_eq!(members("{}").unwrap(), []);
        assert_eq!(members("[1]"), None);
        assert_eq!(elements("[ 1.0 , {} ]").unwrap(), ["1.0", "{}"]);
        assert_eq!((overlap("a<to", "<tool>"), overlap("a", "<tool>"), overlap("é", "\u{e9}x")), (3, 0, 2));
    }
}
