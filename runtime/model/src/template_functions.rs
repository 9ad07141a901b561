//! What transformers gives to chat templates besides Jinja itself.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{
    Error, ErrorKind,
    value::{Kwargs, Rest},
};
use serde_json::{Map, Value};

use crate::{ModelError, python_json};

/// Names under which a message's reasoning is passed, the standard one first.
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The conversation as transformers hands it to templates: without fields that are null, and with each message's
/// reasoning under every name that templates read.
pub(crate) fn prepared(messages: &Value) -> Result<Value, ModelError> {
    let fault = |reason: &str| ModelError::Template { reason: reason.into() };
    let list = messages.as_array().ok_or_else(|| fault("the messages must be a list"))?;
    if list.is_empty() {
        return Err(fault("the conversation is empty: give at least one message"));
    }
    let message = |message: &Value| {
        let message = message.as_object().ok_or_else(|| fault("every message must be an object"))?;
        let fields = message.iter().filter(|(_, value)| !value.is_null());
        let fields = fields.map(|(name, value)| (name.clone(), value.clone()));
        let Some(reasoning) =
            REASONING_FIELDS.iter().find_map(|name| message.get(*name).filter(|value| !value.is_null()))
        else {
            return Ok(Value::Object(fields.collect()));
        };
        let mut aliased = Map::from_iter([("thinking".to_owned(), reasoning.clone())]);
        aliased.extend(fields);
        aliased.insert(REASONING_FIELDS[0].to_owned(), reasoning.clone());
        Ok(Value::Object(aliased))
    };
    list.iter().map(message).collect()
}

/// The template without `{% generation %}` marks: they matter to training only.
pub(crate) fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, inside) = (&rest[..start], &rest[start + 2..]);
        let Some(length) = inside.find("%}") else { break };
        let tag = &inside[..length];
        text.push_str(before);
        text.push_str("{%");
        match tag.trim_matches(['-', '+', ' ', '\t', '\n', '\r']) {
            word @ "generation" => text.push_str(&tag.replace(word, "if true")),
            word @ "endgeneration" => text.push_str(&tag.replace(word, "endif")),
            _ => text.push_str(tag),
        }
        text.push_str("%}");
        rest = &inside[length + 2..];
    }
    text.push_str(rest);
    text
}

/// `trim` as Jinja has it: what is no text is written out first, so that `none` gives `None`.
pub(crate) fn trim(value: minijinja::Value, characters: Option<String>) -> String {
    let text = value.to_string();
    match characters {
        Some(characters) => text.trim_matches(|character| characters.contains(character)).to_owned(),
        // Python counts the four separators as white space too.
        None => text
            .trim_matches(|character: char| character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}'))
            .to_owned(),
    }
}

/// `tojson` as transformers has it: Python's `json.dumps`, with no escapes for HTML.
pub(crate) fn tojson(
    value: minijinja::Value,
    positional: Rest<minijinja::Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let fault = |fault: String| Error::new(ErrorKind::InvalidOperation, format!("tojson: {fault}"));
    let argument = |place: usize, name: &str| match positional.get(place) {
        Some(given) => Ok(Some(given.clone())),
        None => named.get::<Option<minijinja::Value>>(name),
    };
    let ensure_ascii = argument(0, "ensure_ascii")?.is_some_and(|flag| flag.is_true());
    let indent = match argument(1, "indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(width)) if width <= 64 => " ".repeat(width),
            _ => return Err(fault("indent must be a string or a number of up to 64 spaces".into())),
        }),
    };
    let separators = match argument(2, "separators")?.filter(|pair| !pair.is_none()) {
        None => None,
        Some(pair) => {
            let text = |index| pair.get_item_by_index(index).ok().and_then(|part| part.as_str().map(str::to_owned));
            Some(text(0).zip(text(1)).ok_or_else(|| fault("separators must be two strings".into()))?)
        }
    };
    let sort_keys = argument(3, "sort_keys")?.is_some_and(|flag| flag.is_true());
    named.assert_all_used()?;
    let value = serde_json::to_value(&value).map_err(|source| fault(source.to_string()))?;
    Ok(python_json::dumps(&value, &python_json::Style { ensure_ascii, indent, separators, sort_keys }))
}

/// The time now, in UTC, by a format of Python's `strftime`. Directives that it does not know stay as they are.
pub(crate) fn strftime_now(format: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(format, now)
}

fn strftime(format: &str, seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day, of_year) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let weekday = DAYS[((days + 4) % 7) as usize];
    let month_name = MONTHS[month as usize - 1];
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = characters.next();
        let padded = directive != Some('-');
        if !padded {
            directive = characters.next();
        }
        let two = |number: u64| if padded { format!("{number:02}") } else { number.to_string() };
        text.push_str(&match directive {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:>2}"),
            Some('j') => format!("{of_year:03}"),
            Some('H') => two(hour),
            Some('I') => two((hour + 11) % 12 + 1),
            Some('M') => two(minute),
            Some('S') => two(second % 60),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{:02}", second % 60),
            Some('Z') => String::new(),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        });
    }
    text
}

/// Year, month, day and day of the year of a day counted from 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let of_year = days + 1;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1, of_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(strftime("%d %b %Y", 0), "01 Jan 1970");
        assert_eq!(strftime("%A %-d %B %Y %H:%M:%S %j", 1_709_210_096), "Thursday 29 February 2024 12:34:56 060");
        assert_eq!(strftime("%Y-%m-%d %I %p 100%%", 1_735_689_599), "2024-12-31 11 PM 100%");
        assert_eq!(strftime("%", 0), "%");
    }

    #[test]
    fn generation_marks_go_and_nothing_else() {
        let source = "{%- generation -%}a{% endgeneration %}{% if generation %}b{% endif %}{{ x }} {% open";
        let expected = "{%- if true -%}a{% endif %}{% if generation %}b{% endif %}{{ x }} {% open";
        assert_eq!(without_generation_marks(source), expected);
        assert_eq!(without_generation_marks("{%}"), "{%}");
        assert_eq!(without_generation_marks("é{%%}{%"), "é{%%}{%");
    }
}
