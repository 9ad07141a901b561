//! Python's methods of strings, lists and dictionaries, as far as minijinja's own compatibility lacks them or differs.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, Tuple, ValueKind, from_args},
};

/// Answers a method call on a value that has no such method of its own.
pub(crate) fn call(state: &mut State, value: &Value, method: &str, given: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => value.as_str().map(|text| of_text(text, method, given)),
        ValueKind::Seq | ValueKind::Iterable => Some(of_list(value, method, given)),
        ValueKind::Map => Some(of_map(value, method, given)),
        _ => None,
    };
    match own {
        Some(Err(fault)) if fault.kind() == ErrorKind::UnknownMethod => {}
        Some(answer) => return answer,
        None => {}
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, given)
}

/// Arguments by place or by name.
struct Arguments {
    placed: Vec<Value>,
    named: Kwargs,
}

impl Arguments {
    fn of(given: &[Value]) -> Result<Self, Error> {
        let (placed, named): (Rest<Value>, Kwargs) = from_args(given)?;
        Ok(Self { placed: placed.0, named })
    }

    fn get(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        let value = match self.placed.get(place) {
            Some(value) => Some(value.clone()),
            None => self.named.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|value| !value.is_none()))
    }

    fn text(&self, place: usize, name: &str) -> Result<Option<String>, Error> {
        let text = |value: Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "a string", &value));
        self.get(place, name)?.map(text).transpose()
    }

    fn required_text(&self, place: usize, name: &str) -> Result<String, Error> {
        self.text(place, name)?.ok_or_else(|| Error::new(ErrorKind::MissingArgument, format!("{name} is missing")))
    }

    fn number(&self, place: usize, name: &str) -> Result<Option<i64>, Error> {
        let number = |value: Value| value.as_i64().ok_or_else(|| wrong(name, "a whole number", &value));
        self.get(place, name)?.map(number).transpose()
    }

    fn end(self, most: usize) -> Result<(), Error> {
        if self.placed.len() > most {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        self.named.assert_all_used()
    }
}

fn wrong(name: &str, expected: &str, found: &Value) -> Error {
    invalid(format!("{name} must be {expected}, found a value of type {}", found.kind()))
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

fn of_text(text: &str, method: &str, given: &[Value]) -> Result<Value, Error> {
    let arguments = || Arguments::of(given);
    match method {
        "split" | "rsplit" => {
            let arguments = arguments()?;
            let separator = arguments.text(0, "sep")?;
            let most = arguments.number(1, "maxsplit")?.and_then(|most| usize::try_from(most).ok());
            arguments.end(2)?;
            let parts = match separator.as_deref() {
                Some("") => return Err(invalid("empty separator")),
                Some(separator) => split(text, separator, most, method == "rsplit"),
                None => split_at_space(text, most, method == "rsplit"),
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "removeprefix" | "removesuffix" => {
            let arguments = arguments()?;
            let part = arguments.required_text(0, "the text")?;
            arguments.end(1)?;
            let rest = if method == "removeprefix" { text.strip_prefix(&part) } else { text.strip_suffix(&part) };
            Ok(rest.unwrap_or(text).into())
        }
        "partition" | "rpartition" => {
            let arguments = arguments()?;
            let separator = arguments.required_text(0, "sep")?;
            arguments.end(1)?;
            if separator.is_empty() {
                return Err(invalid("empty separator"));
            }
            let (first, last) = (text.split_once(&separator), text.rsplit_once(&separator));
            let parts = match (if method == "partition" { first } else { last }, method) {
                (Some((before, after)), _) => [before, separator.as_str(), after],
                (None, "partition") => [text, "", ""],
                (None, _) => ["", "", text],
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith" if !is_plain(method, given) => {
            searched(text, method, arguments()?)
        }
        "zfill" | "ljust" | "rjust" | "center" => padded(text, method, arguments()?),
        _ => {
            let answer = without_arguments(text, method).ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?;
            arguments()?.end(0)?;
            Ok(answer)
        }
    }
}

/// Whether minijinja's own form of the method answers the call: it knows tuples of prefixes, but no ranges.
fn is_plain(method: &str, given: &[Value]) -> bool {
    matches!(method, "startswith" | "endswith") && given.len() == 1
}

fn without_arguments(text: &str, method: &str) -> Option<Value> {
    let every = |holds: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(holds));
    Some(match method {
        "swapcase" => {
            let swapped = text.chars().flat_map(|character| -> Box<dyn Iterator<Item = char>> {
                if character.is_uppercase() {
                    Box::new(character.to_lowercase())
                } else {
                    Box::new(character.to_uppercase())
                }
            });
            swapped.collect::<String>().into()
        }
        "casefold" => text.to_lowercase().replace('ß', "ss").into(),
        // Digits of any script are rare; fractions and the like are numeric only.
        "isdigit" | "isdecimal" => every(|character| character.is_ascii_digit()),
        "isidentifier" => {
            let begins = text.starts_with(|first: char| first.is_alphabetic() || first == '_');
            (begins && text.chars().all(|character| character.is_alphanumeric() || character == '_')).into()
        }
        "istitle" => {
            let (mut cased, mut inside) = (false, false);
            for character in text.chars() {
                if character.is_uppercase() && inside || character.is_lowercase() && !inside {
                    return Some(false.into());
                }
                inside = character.is_uppercase() || character.is_lowercase();
                cased |= inside;
            }
            cased.into()
        }
        _ => return None,
    })
}

fn split<'a>(text: &'a str, separator: &str, most: Option<usize>, from_end: bool) -> Vec<&'a str> {
    match (most, from_end) {
        (None, _) => text.split(separator).collect(),
        (Some(most), false) => text.splitn(most.saturating_add(1), separator).collect(),
        (Some(most), true) => {
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
    }
}

/// Split at runs of white space: no part is empty.
fn split_at_space(text: &str, most: Option<usize>, from_end: bool) -> Vec<&str> {
    let most = most.unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut rest = if from_end { text.trim_end() } else { text.trim_start() };
    while !rest.is_empty() {
        let cut = if from_end { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        match cut.filter(|_| parts.len() < most) {
            None => {
                parts.push(rest);
                break;
            }
            Some(at) if from_end => {
                let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                parts.push(&rest[at + width..]);
                rest = rest[..at].trim_end();
            }
            Some(at) => {
                parts.push(&rest[..at]);
                rest = rest[at..].trim_start();
            }
        }
    }
    if from_end {
        parts.reverse();
    }
    parts
}

/// The methods that take a text, a start and an end, counted in characters.
fn searched(text: &str, method: &str, arguments: Arguments) -> Result<Value, Error> {
    let what = arguments.required_text(0, "the text")?;
    let (start, end) = (arguments.number(1, "start")?, arguments.number(2, "end")?);
    arguments.end(3)?;
    let length = text.chars().count() as i64;
    let place = |number: i64| if number < 0 { (length + number).max(0) } else { number.min(length) };
    let (first, last) = (start.map_or(0, place), end.map_or(length, place));
    let byte = |place: i64| text.char_indices().nth(place as usize).map_or(text.len(), |(at, _)| at);
    let beyond = start.is_some_and(|start| start > length) || first > last;
    let part = if beyond { None } else { Some(&text[byte(first)..byte(last)]) };
    let place_of = |at: usize| first + part.map_or(0, |part| part[..at].chars().count() as i64);
    Ok(match method {
        "startswith" => part.is_some_and(|part| part.starts_with(&what)).into(),
        "endswith" => part.is_some_and(|part| part.ends_with(&what)).into(),
        "count" => part.map_or(0, |part| part.matches(&what).count()).into(),
        _ => {
            let from_end = method.starts_with('r');
            let found = part.and_then(|part| if from_end { part.rfind(&what) } else { part.find(&what) });
            match found.map(place_of) {
                Some(place) => place.into(),
                None if method.ends_with("index") => return Err(invalid("substring not found")),
                None => (-1).into(),
            }
        }
    })
}

fn padded(text: &str, method: &str, arguments: Arguments) -> Result<Value, Error> {
    /// Wider than anybody pads.
    const WIDEST: i64 = 1 << 16;
    let width = arguments.number(0, "width")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    let fill = if method == "zfill" { Some("0".to_owned()) } else { arguments.text(1, "fillchar")? };
    arguments.end(2)?;
    if width > WIDEST {
        return Err(invalid(format!("a width of {width} is more than {WIDEST}")));
    }
    let fill = fill.unwrap_or_else(|| " ".into());
    if fill.chars().count() != 1 {
        return Err(invalid("the fill character must be exactly one character long"));
    }
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    let left = match method {
        "ljust" => 0,
        // Python's rule for the odd one.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (before, after) = (fill.repeat(left), fill.repeat(missing - left));
    let sign = text.len() - text.strip_prefix(['+', '-']).map_or(text.len(), str::len);
    let (sign, rest) = if method == "zfill" { text.split_at(sign) } else { ("", text) };
    Ok(format!("{sign}{before}{rest}{after}").into())
}

fn of_list(list: &Value, method: &str, given: &[Value]) -> Result<Value, Error> {
    match method {
        "index" => {
            let (wanted,): (&Value,) = from_args(given)?;
            let place = list.try_iter()?.position(|item| item == *wanted);
            place.map(Value::from).ok_or_else(|| invalid("the value is not in the list"))
        }
        "copy" => {
            let () = from_args(given)?;
            Ok(list.clone())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn of_map(map: &Value, method: &str, given: &[Value]) -> Result<Value, Error> {
    match method {
        "copy" => {
            let () = from_args(given)?;
            Ok(map.clone())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
