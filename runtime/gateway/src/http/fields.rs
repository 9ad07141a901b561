//! Reading a request's fields: every fault names the field, what was expected and what was found.

use std::{fmt::Display, ops::RangeInclusive};

use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a JSON object. A null counts as absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The fields of a request's body.
    pub(crate) fn of_body(body: &'a Value) -> Result<Self, ApiError> {
        let fault =
            || ApiError::invalid("", "invalid_type", format!("The body must be an object, got {}.", kind(body)));
        body.as_object().map(Self).ok_or_else(fault)
    }

    /// Names of fields that are none of `known`.
    pub(crate) fn beside(self, known: &[&[&str]]) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(move |name| !known.iter().any(|names| names.contains(name)))
    }

    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn number(self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number", value))?;
        in_range(name, number, &range)?;
        Ok(Some(number as f32))
    }

    pub(crate) fn integer(self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = whole(value).ok_or_else(|| wrong_type(name, "an integer", value))?;
        in_range(name, number, &range)?;
        Ok(Some(number))
    }

    pub(crate) fn flag(self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong_type(name, "a boolean", value))
    }

    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong_type(name, "a string", value))
    }

    pub(crate) fn object(self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_object().map(Some).ok_or_else(|| wrong_type(name, "an object", value))
    }
}

/// The integer that a value is, however it is written: languages with one type of numbers write 5 as 5.0.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    /// From here on not every integer is a number of this type.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let fractional = || value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT);
    value.as_i64().or_else(|| fractional().map(|number| number as i64))
}

/// The fault of a value that is of another type than `expected`.
pub(crate) fn wrong_type(name: &str, expected: &str, found: &Value) -> ApiError {
    let message = format!("Invalid type for '{name}': expected {expected}, but got {} instead.", kind(found));
    ApiError::invalid(name, "invalid_type", message)
}

/// The fault of a value that is not allowed.
pub(crate) fn wrong_value(name: &str, message: impl Display) -> ApiError {
    ApiError::invalid(name, "invalid_value", format!("Invalid '{name}': {message}."))
}

/// Refuses a value out of `range`.
pub(crate) fn in_range<T: PartialOrd + Display>(
    name: &str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<(), ApiError> {
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!("expected a value from {} to {}, but got {value}", range.start(), range.end());
    Err(wrong_value(name, message))
}

/// The type of a value, for people.
pub(crate) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
