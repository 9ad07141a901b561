//! What ends an answer at a client's word: texts and tokens.

use serde_json::Value;

use super::{
    error::ApiError,
    fields::{Fields, whole, wrong_type, wrong_value},
};

/// Editors send a dozen or two. Every piece of an answer is compared with all of them.
const MOST: usize = 256;
const LONGEST: usize = 1024;
const MOST_BYTES: usize = 16 << 10;

/// The stop strings in a field.
pub(super) fn texts(fields: Fields<'_>, name: &str) -> Result<Vec<String>, ApiError> {
    let expected = "a string or an array of strings";
    let stops = match fields.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => {
            let text = |stop: &Value| stop.as_str().map(str::to_owned);
            let wrong = |stop: &Value| wrong_type(name, expected, stop);
            stops.iter().map(|stop| text(stop).ok_or_else(|| wrong(stop))).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type(name, expected, other)),
    };
    let (found, bytes) = (stops.len(), stops.iter().map(String::len).sum::<usize>());
    if found > MOST || bytes > MOST_BYTES {
        let most = format!("at most {MOST} stop strings with {MOST_BYTES} bytes in all are allowed");
        return Err(wrong_value(name, format!("{most}, but got {found} with {bytes} bytes")));
    }
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > LONGEST) {
        return Err(wrong_value(name, format!("a stop string has from 1 to {LONGEST} bytes")));
    }
    Ok(stops)
}

/// `stop_token_ids`.
pub(super) fn tokens(fields: Fields<'_>, vocabulary: u32) -> Result<Vec<u32>, ApiError> {
    const NAME: &str = "stop_token_ids";
    let Some(value) = fields.get(NAME) else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| wrong_type(NAME, "an array of token ids", value))?;
    if list.len() > MOST {
        return Err(wrong_value(NAME, format!("at most {MOST} tokens are allowed, but got {}", list.len())));
    }
    let last = vocabulary.saturating_sub(1);
    let token = |value: &Value| {
        let id = whole(value).ok_or_else(|| wrong_type(NAME, "an array of token ids", value))?;
        let unknown = || wrong_value(NAME, format!("{id} is no token id of this model (0 to {last})"));
        u32::try_from(id).ok().filter(|id| *id <= last).ok_or_else(unknown)
    };
    list.iter().map(token).collect()
}
