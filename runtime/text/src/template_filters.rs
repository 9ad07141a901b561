//! Jinja's filters, tests and functions where minijinja's own differ or are missing.

use minijinja::{
    Environment, Error, ErrorKind, Value,
    formatting::{FormatStyle, format},
    value::{Kwargs, Rest, Tuple, ValueKind},
};

use crate::{python_json, template_source::PERCENT};

/// Lists within lists that `tojson` writes, as many as a JSON parser takes.
const DEEPEST: usize = 128;

/// Teaches `environment` all of them.
pub(crate) fn add_to(environment: &mut Environment<'_>) {
    minijinja_contrib::add_to_environment(environment);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", trim);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("indent", indent);
    environment.add_filter("center", center);
    environment.add_filter("wordcount", |text: &str| text.split_whitespace().count());
    environment.add_filter(PERCENT, percent);
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("callable", is_callable);
    environment.add_function("namespace", namespace);
}

/// Whether Python's `iter` takes it: an undefined value is empty there, and `none` is not iterable.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Whether it has a length and items: texts and dictionaries have both.
fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    value.is_undefined() || kind != ValueKind::None && value.len().is_some()
}

fn is_callable(value: &Value) -> bool {
    // As jinja2's Undefined, which has a __call__ that raises.
    value.is_undefined() || value.kind() == ValueKind::Plain
}

/// `namespace` of dictionaries, names and values.
fn namespace(given: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for map in given.iter() {
        for key in map.try_iter()? {
            pairs.push((key.clone(), map.get_item(&key)?));
        }
    }
    let names: Vec<String> = named.args().map(str::to_owned).collect();
    for name in names {
        let value = named.get::<Value>(&name)?;
        pairs.push((name.into(), value));
    }
    let all = [Value::from_pairs(pairs)];
    let (defaults,) = minijinja::value::from_args(&all)?;
    minijinja::functions::namespace(defaults)
}

/// Python's `%`: a text is formatted, a number divided.
fn percent(left: &Value, right: &Value) -> Result<Value, Error> {
    let fault = |reason: &str| Error::new(ErrorKind::InvalidOperation, reason.to_owned());
    if let Some(text) = left.as_str() {
        // Python's repr is written as Jinja writes lists.
        let list = right.as_object().filter(|object| object.is::<Tuple>());
        let given: Vec<Value> = match list {
            Some(_) => right.try_iter()?.collect(),
            None => vec![right.clone()],
        };
        return printf(text, given).map(Value::from);
    }
    let whole = |value: &Value| i128::try_from(value.clone()).ok().filter(|_| value.is_integer());
    match (whole(left), whole(right)) {
        (Some(_), Some(0)) => Err(fault("modulo by zero")),
        (Some(left), Some(right)) => {
            let rest = left.checked_rem(right).unwrap_or(0);
            let floored = if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest };
            Ok(Value::from(floored))
        }
        _ => {
            let number = |value: &Value| f64::try_from(value.clone()).ok();
            let (left, right) = number(left).zip(number(right)).ok_or_else(|| {
                fault(&format!("tried to use % operator on unsupported types {} and {}", left.kind(), right.kind()))
            })?;
            if right == 0.0 {
                return Err(fault("float modulo by zero"));
            }
            let rest = left % right;
            Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (right < 0.0) { rest + right } else { rest }))
        }
    }
}

/// Python's printf, where minijinja's has no `%r` and takes fewer or more values than the text asks for.
fn printf(text: &str, mut given: Vec<Value>) -> Result<String, Error> {
    let mut form = String::with_capacity(text.len());
    let (mut asked, mut by_name) = (0, false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        form.push(character);
        if character != '%' {
            continue;
        }
        for directive in characters.by_ref() {
            by_name |= directive == '(';
            match directive {
                'r' if !by_name => {
                    if let Some(value) = given.get_mut(asked) {
                        *value = repr(value).into();
                    }
                    form.push('s');
                }
                other => form.push(other),
            }
            asked += usize::from(directive == '*');
            if directive.is_alphabetic() && !matches!(directive, 'h' | 'l' | 'L') && !by_name {
                asked += 1;
                break;
            }
            if directive == '%' || by_name && directive.is_alphabetic() {
                break;
            }
        }
    }
    let is_map = matches!(given.as_slice(), [only] if only.kind() == ValueKind::Map);
    if !by_name && !is_map && asked < given.len() {
        return Err(Error::new(ErrorKind::InvalidOperation, "not all arguments converted during string formatting"));
    }
    format(FormatStyle::Printf, &form, &given)
}

/// As a list shows the value.
fn repr(value: &Value) -> String {
    let list = Value::from(vec![value.clone()]).to_string();
    list[1..list.len() - 1].to_owned()
}

/// `int` as Jinja has it: what is no number is the default, 0 where none is given.
fn int(state: &minijinja::State, value: &Value, given: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let default = argument(&given, &named, 0, "default")?;
    let base = argument(&given, &named, 1, "base")?.and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
    named.assert_all_used()?;
    let default = default.unwrap_or_else(|| 0.into());
    minijinja::filters::int(state, value, Some(default), Some(base), Kwargs::from_iter(Vec::<(String, Value)>::new()))
}

/// `float` as Jinja has it.
fn float(value: &Value, default: Option<Value>) -> Value {
    let number = match value.as_str() {
        Some(text) => text.trim().parse::<f64>().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    number.map(Value::from).or(default).unwrap_or_else(|| 0.0.into())
}

/// `indent` as Jinja has it: by a number of spaces or by a text.
fn indent(text: &str, given: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    const WIDEST: usize = 1 << 12;
    let width = argument(&given, &named, 0, "width")?.unwrap_or_else(|| 4.into());
    let first = argument(&given, &named, 1, "first")?.is_some_and(|flag| flag.is_true());
    let blank = argument(&given, &named, 2, "blank")?.is_some_and(|flag| flag.is_true());
    named.assert_all_used()?;
    let by = match (width.as_str(), width.as_usize()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(width)) if width <= WIDEST => " ".repeat(width),
        _ => return Err(Error::new(ErrorKind::InvalidOperation, "indent: the width must be a text or a small number")),
    };
    let mut lines = text.split('\n');
    let mut written = if first { by.clone() } else { String::new() };
    written.push_str(lines.next().unwrap_or_default());
    for line in lines {
        written.push('\n');
        if blank || !line.is_empty() {
            written.push_str(&by);
        }
        written.push_str(line);
    }
    Ok(written)
}

fn center(state: &mut minijinja::State, value: &Value, width: Option<Value>) -> Result<Value, Error> {
    let text = Value::from(value.to_string());
    crate::template_methods::call(state, &text, "center", &[width.unwrap_or_else(|| 80.into())])
}

fn argument(given: &Rest<Value>, named: &Kwargs, place: usize, name: &str) -> Result<Option<Value>, Error> {
    match given.get(place) {
        Some(value) => Ok(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    }
}

/// `trim` as Jinja has it: what is no text is written out first, so that `none` gives `None`.
pub(crate) fn trim(value: Value, characters: Option<String>) -> String {
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
pub(crate) fn tojson(value: Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let fault = |fault: String| Error::new(ErrorKind::InvalidOperation, format!("tojson: {fault}"));
    let argument = |place: usize, name: &str| argument(&positional, &named, place, name);
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
    let style = python_json::Style { ensure_ascii, indent, separators, sort_keys };
    Ok(python_json::dumps(&json_of(&value, 0)?, &style))
}

/// The value as JSON. What nests deeper than a stack is deep is refused, and so is what Python refuses.
fn json_of(value: &Value, depth: usize) -> Result<serde_json::Value, Error> {
    let fault = |reason: &str| Error::new(ErrorKind::InvalidOperation, format!("tojson: {reason}"));
    if depth > DEEPEST {
        return Err(fault("the value is nested too deeply"));
    }
    match value.kind() {
        ValueKind::Undefined => Err(fault("an undefined value cannot be written")),
        ValueKind::Seq => value.try_iter()?.map(|item| json_of(&item, depth + 1)).collect(),
        ValueKind::Map => {
            let mut map = serde_json::Map::new();
            for key in value.try_iter()? {
                let field = json_of(&value.get_item(&key)?, depth + 1)?;
                let name = match key.kind() {
                    // Python's names of the three: true, false and null.
                    ValueKind::Bool | ValueKind::None => json_of(&key, depth + 1)?.to_string(),
                    _ => key.to_string(),
                };
                map.insert(name, field);
            }
            Ok(map.into())
        }
        ValueKind::Iterable | ValueKind::Plain | ValueKind::Bytes => {
            Err(fault(&format!("a value of type {} cannot be written: make it a list", value.kind())))
        }
        _ => serde_json::to_value(value).map_err(|source| fault(&source.to_string())),
    }
}
