//! The values of a file's metadata.

use super::cursor::{Cursor, Fault};

/// The longest text of a value: chat templates are the longest that are known, with some tens of KiB.
const MOST_TEXT: u64 = 4 << 20;
/// The most elements of an array: no vocabulary, nor its merges, has more.
const MOST_ELEMENTS: u64 = 1 << 21;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Any whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    Flag(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Flags(Vec<bool>),
    Texts(Vec<String>),
}

impl Value {
    /// What kind of value it is, for errors.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Text(_) => "a text",
            Self::Integers(_) => "whole numbers",
            Self::Floats(_) => "numbers",
            Self::Flags(_) => "flags",
            Self::Texts(_) => "texts",
        }
    }
}

/// The types of values, by the numbers that stand for them.
mod code {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}

/// Reads the value of `key`.
pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, Fault> {
    let kind = cursor.u32()?;
    match kind {
        code::ARRAY => array(cursor, key),
        code::TEXT => Ok(Value::Text(text(cursor, key)?)),
        code::BOOL => Ok(Value::Flag(flag(cursor, key)?)),
        code::F32 | code::F64 => Ok(Value::Float(float(cursor, kind)?)),
        _ => Ok(Value::Integer(integer(cursor, kind, key)?)),
    }
}

fn array(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, Fault> {
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    if count > MOST_ELEMENTS {
        return Err(format!("{key:?} claims {count} elements, more than the {MOST_ELEMENTS} that are read").into());
    }
    // Collected as they come: what a file claims takes no memory.
    match kind {
        code::ARRAY => Err(format!("{key:?} is a list of lists, which is not read").into()),
        code::TEXT => (0..count).map(|_| text(cursor, key)).collect::<Result<_, _>>().map(Value::Texts),
        code::BOOL => (0..count).map(|_| flag(cursor, key)).collect::<Result<_, _>>().map(Value::Flags),
        code::F32 | code::F64 => {
            let numbers = (0..count).map(|_| float(cursor, kind).map(|number| number as f32));
            numbers.collect::<Result<_, _>>().map(Value::Floats)
        }
        _ => {
            let numbers = (0..count).map(|_| {
                let number = integer(cursor, kind, key)?;
                i64::try_from(number).map_err(|_| Fault::from(format!("{key:?} has the number {number}")))
            });
            numbers.collect::<Result<_, _>>().map(Value::Integers)
        }
    }
}

fn text(cursor: &mut Cursor<'_>, key: &str) -> Result<String, Fault> {
    cursor.text(MOST_TEXT, &format!("the value of {key:?}")).map(str::to_owned)
}

fn flag(cursor: &mut Cursor<'_>, key: &str) -> Result<bool, Fault> {
    match cursor.array::<1>()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(format!("{key:?} is neither true nor false but {other}").into()),
    }
}

fn float(cursor: &mut Cursor<'_>, kind: u32) -> Result<f64, Fault> {
    match kind {
        code::F32 => cursor.array().map(|bytes| f32::from_le_bytes(bytes).into()),
        _ => cursor.array().map(f64::from_le_bytes),
    }
}

fn integer(cursor: &mut Cursor<'_>, kind: u32, key: &str) -> Result<i128, Fault> {
    match kind {
        code::U8 => cursor.array().map(|bytes| u8::from_le_bytes(bytes).into()),
        code::I8 => cursor.array().map(|bytes| i8::from_le_bytes(bytes).into()),
        code::U16 => cursor.array().map(|bytes| u16::from_le_bytes(bytes).into()),
        code::I16 => cursor.array().map(|bytes| i16::from_le_bytes(bytes).into()),
        code::U32 => cursor.array().map(|bytes| u32::from_le_bytes(bytes).into()),
        code::I32 => cursor.array().map(|bytes| i32::from_le_bytes(bytes).into()),
        code::U64 => cursor.array().map(|bytes| u64::from_le_bytes(bytes).into()),
        code::I64 => cursor.array().map(|bytes| i64::from_le_bytes(bytes).into()),
        other => Err(format!("{key:?} is a value of the unknown type {other}").into()),
    }
}
