//! Typed access to a file's metadata, with errors that name the key.

use std::{collections::BTreeMap, path::Path};

use lime_files::FileError;

use super::value::Value;
use crate::error::ModelError;

/// The metadata of a model, and the file that they are of.
#[derive(Clone, Copy)]
pub(super) struct Metadata<'a> {
    pub(super) path: &'a Path,
    pub(super) values: &'a BTreeMap<String, Value>,
}

impl<'a> Metadata<'a> {
    /// A fault of what the model asks for, in the words of who reads it.
    pub(super) fn error(&self, reason: impl Into<String>) -> ModelError {
        FileError::Wrong { path: self.path.to_owned(), reason: reason.into() }.into()
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key)
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> ModelError {
        self.error(format!("the key {key:?} must be {expected}, found {}", found.kind()))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a text", other)),
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Flag(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            // Others have no place in JSON: they would become null there, which says nothing.
            Some(Value::Float(number)) if !number.is_finite() => {
                Err(self.error(format!("the key {key:?} must be a finite number, found {number}")))
            }
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(Value::Integer(number)) => Ok(Some(*number as f64)),
            Some(other) => Err(self.wrong(key, "a number", other)),
        }
    }

    /// A whole number from 0 on. Some writers give one for each layer: they must agree.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, ModelError> {
        let expected = "a whole number from 0 on";
        match self.get(key) {
            None => Ok(None),
            Some(value @ Value::Integer(count)) => {
                u64::try_from(*count).map(Some).map_err(|_| self.wrong(key, expected, value))
            }
            Some(value @ Value::Integers(counts)) => match counts.split_first() {
                Some((first, rest)) if rest.iter().all(|other| other == first) => {
                    u64::try_from(*first).map(Some).map_err(|_| self.wrong(key, expected, value))
                }
                _ => Err(self.error(format!("the key {key:?} differs from layer to layer, which is not supported"))),
            },
            Some(other) => Err(self.wrong(key, expected, other)),
        }
    }

    pub(super) fn required_count(&self, key: &str) -> Result<u64, ModelError> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn missing(&self, key: &str) -> ModelError {
        self.error(format!("the key {key:?} is missing: the file is not a complete model"))
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<&'a [String]>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(other) => Err(self.wrong(key, "a list of texts", other)),
        }
    }

    pub(super) fn floats(&self, key: &str) -> Result<Option<&'a [f32]>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Floats(numbers)) => match numbers.iter().position(|number| number.is_nan()) {
                Some(index) => Err(self.error(format!("the key {key:?} has no number in place {index}"))),
                None => Ok(Some(numbers)),
            },
            Some(other) => Err(self.wrong(key, "a list of numbers", other)),
        }
    }

    pub(super) fn integers(&self, key: &str) -> Result<Option<&'a [i64]>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integers(numbers)) => Ok(Some(numbers)),
            Some(other) => Err(self.wrong(key, "a list of whole numbers", other)),
        }
    }
}
