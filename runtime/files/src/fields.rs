//! Bounded reading of JSON files, and typed access to their fields with errors that name the field.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{error::FileError, small_file::read_small};

/// Reads a whole regular file, but never more than `limit` bytes of it. `hint` says what to do where it is missing.
///
/// # Errors
/// A file that is not there, cannot be read, is no regular one or is larger.
pub fn read_bounded(path: &Path, limit: u64, hint: &'static str) -> Result<Vec<u8>, FileError> {
    read_small(path, limit).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => FileError::Missing { path: path.to_owned(), hint },
        _ => FileError::Read { path: path.to_owned(), source },
    })
}

/// A JSON object and the file that it came from.
pub struct Fields<'a> {
    path: PathBuf,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which came from the file at `path`.
    ///
    /// # Errors
    /// A value that is no object.
    pub fn new(path: &Path, value: &'a Value) -> Result<Self, FileError> {
        let path = path.to_owned();
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(FileError::Wrong { path, reason: format!("expected a JSON object, found {}", kind(other)) }),
        }
    }

    /// A fault of the file that is none of one field alone.
    pub fn error(&self, reason: impl Into<String>) -> FileError {
        FileError::Wrong { path: self.path.clone(), reason: reason.into() }
    }

    /// The field's value; `null` counts as absent, as it does for the writers of these files.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there, be it `null`.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// The fields of an object within.
    ///
    /// # Errors
    /// A value of another kind.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, FileError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { path: self.path.clone(), map })),
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    /// All fields, `null` or not.
    pub fn values(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    /// A string.
    ///
    /// # Errors
    /// A value of another kind.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, FileError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a string", other)),
        }
    }

    /// `true` or `false`, and `default` where it is absent.
    ///
    /// # Errors
    /// A value of another kind.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, FileError> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    /// A whole number of `1..=most`.
    ///
    /// # Errors
    /// A value of another kind, or out of range.
    pub fn count(&self, name: &str, most: u64) -> Result<Option<usize>, FileError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(count) if (1..=most).contains(&count) => Ok(Some(count as usize)),
            _ => Err(self.wrong(name, &format!("a whole number from 1 to {most}"), value)),
        }
    }

    /// As [`Fields::count`] for a field without which the file is not complete.
    ///
    /// # Errors
    /// A field that is absent, too.
    pub fn required_count(&self, name: &str, most: u64) -> Result<usize, FileError> {
        let missing = || self.error(format!("the field {name:?} is missing: the file is not a complete model config"));
        self.count(name, most)?.ok_or_else(missing)
    }

    /// Which of two names of one field is given.
    ///
    /// # Errors
    /// When both are, and do not say the same.
    pub fn either<'n>(&self, name: &'n str, other: &'n str) -> Result<&'n str, FileError> {
        match (self.get(name), self.get(other)) {
            (Some(one), Some(two)) if one != two => Err(self.contradiction((name, one), (other, two))),
            (None, Some(_)) => Ok(other),
            _ => Ok(name),
        }
    }

    /// Two fields that should say the same and do not.
    pub fn contradiction(&self, one: (&str, &Value), other: (&str, &Value)) -> FileError {
        let (one_says, other_says) = (kind(one.1), kind(other.1));
        let (one, other) = (one.0, other.0);
        self.error(format!("{one:?} is {one_says}, {other:?} is {other_says}, and they must say the same: remove one"))
    }

    /// A number within `low..=high`.
    ///
    /// # Errors
    /// A value of another kind, or out of range.
    pub fn number(&self, name: &str, low: f64, high: f64) -> Result<Option<f64>, FileError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(name, &format!("a number from {low} to {high}"), value)),
        }
    }

    /// A token id, or a list of them.
    ///
    /// # Errors
    /// A value of another kind, or an id beyond 32 bits.
    pub fn token_ids(&self, name: &str) -> Result<Vec<u32>, FileError> {
        let expected = "a token id or a list of token ids";
        let id = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| self.wrong(name, expected, value))
        };
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(id).collect(),
            Some(single) => Ok(vec![id(single)?]),
        }
    }

    /// A fault that says what the field must be and what it is.
    pub fn wrong(&self, name: &str, expected: &str, found: &Value) -> FileError {
        self.error(format!("the field {name:?} must be {expected}, found {}", kind(found)))
    }
}

/// A short description of a value, for errors.
pub fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= 64 => format!("{text:?}"),
        Value::String(_) => "a long string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
