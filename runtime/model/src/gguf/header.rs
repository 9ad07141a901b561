//! The header of one GGUF file: metadata and tensors, read and checked without reading the weights.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    cursor::{Cursor, Fault},
    types::{TensorType, tensor_type},
    value::{self, Value},
};

const MAGIC: [u8; 4] = *b"GGUF";
/// Longer headers are refused: the largest vocabularies that are known, with their merges, take some 20 MiB.
pub(super) const HEADER_LIMIT: u64 = 64 << 20;
const MOST_KEYS: u64 = 1 << 16;
const MOST_TENSORS: u64 = 1 << 20;
const MOST_NAME: u64 = 1 << 10;
const MOST_DIMENSIONS: u32 = 4;
const ALIGNMENT_KEY: &str = "general.alignment";
const USUAL_ALIGNMENT: u64 = 32;
const MOST_ALIGNMENT: i128 = 1 << 20;

/// A tensor as its file's header describes it.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) kind: TensorType,
    /// Slowest first, as everywhere else: `[rows, columns]`.
    pub(super) shape: Vec<usize>,
    /// Offset in the file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A checked header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) values: BTreeMap<String, Value>,
    pub(super) tensors: Vec<Tensor>,
    /// Its size: where the data of tensors begins.
    pub(super) bytes: u64,
    /// Where the last tensor ends.
    pub(super) end: u64,
}

impl Header {
    /// Reads the header that `prefix` begins with. Every tensor lies behind it, aligned, and none overlaps another; whether the
    /// file reaches to [`Self::end`] is for who knows its size.
    pub(super) fn parse(prefix: &[u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(prefix);
        if cursor.array()? != MAGIC {
            return Err("it does not begin with GGUF: not a GGUF file".to_owned().into());
        }
        match cursor.u32()? {
            2 | 3 => {}
            1 => return Err("it is of GGUF version 1, 2 and 3 are read: convert it anew".to_owned().into()),
            other if matches!(other.swap_bytes(), 1..=3) => {
                return Err("it is big-endian, little-endian files are read: convert it anew".to_owned().into());
            }
            other => return Err(format!("it is of GGUF version {other}, 2 and 3 are read").into()),
        }
        let tensors = counted(cursor.u64()?, MOST_TENSORS, "tensors")?;
        let keys = counted(cursor.u64()?, MOST_KEYS, "keys")?;
        let mut values = BTreeMap::new();
        for _ in 0..keys {
            let key = cursor.text(MOST_NAME, "a key")?;
            let value = value::read(&mut cursor, key)?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(format!("the key {key:?} is there twice").into());
            }
        }
        let alignment = alignment(&values)?;
        let mut found = Vec::new();
        for _ in 0..tensors {
            found.push(tensor(&mut cursor, alignment)?);
        }
        let bytes = cursor.position().next_multiple_of(alignment);
        let end = placed(&mut found, bytes)?;
        Ok(Self { values, tensors: found, bytes, end })
    }
}

fn counted(count: u64, most: u64, what: &str) -> Result<u64, Fault> {
    if count <= most { Ok(count) } else { Err(format!("it claims {count} {what}: damaged, or not a GGUF file").into()) }
}

fn alignment(values: &BTreeMap<String, Value>) -> Result<u64, Fault> {
    match values.get(ALIGNMENT_KEY) {
        None => Ok(USUAL_ALIGNMENT),
        Some(Value::Integer(bytes @ 8..=MOST_ALIGNMENT)) if bytes.count_ones() == 1 => Ok(*bytes as u64),
        Some(_) => Err(format!("{ALIGNMENT_KEY:?} is no power of two from 8 to {MOST_ALIGNMENT}").into()),
    }
}

/// Reads the description of one tensor. Its offset still counts from where data begin.
fn tensor(cursor: &mut Cursor<'_>, alignment: u64) -> Result<Tensor, Fault> {
    let name = cursor.text(MOST_NAME, "the name of a tensor")?;
    let fault = |reason: String| Fault::Damaged(format!("tensor {name:?} {reason}"));
    let dimensions = cursor.u32()?;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(fault(format!("has {dimensions} dimensions")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64()?);
    }
    let code = cursor.u32()?;
    let kind = tensor_type(code).ok_or_else(|| fault(format!("is of the unknown type {code}")))?;
    let (offset, columns) = (cursor.u64()?, shape[0]);
    if !columns.is_multiple_of(kind.elements) {
        return Err(fault(format!("has rows of {columns} elements, {} stores {} together", kind.name, kind.elements)));
    }
    let elements = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size)).filter(|count| *count > 0);
    let bytes = elements.and_then(|elements| (elements / kind.elements).checked_mul(kind.bytes));
    // What fits into an isize may be the size of something in memory, and its parts may be added up.
    let bytes = bytes.filter(|bytes| isize::try_from(*bytes).is_ok());
    let bytes = bytes.ok_or_else(|| fault(format!("has the shape {shape:?}, which nothing can have")))?;
    if !offset.is_multiple_of(alignment) {
        return Err(fault(format!("begins at {offset}, which is no multiple of {alignment}")));
    }
    let shape = shape.into_iter().rev().map(|size| size as usize).collect();
    Ok(Tensor { name: name.to_owned(), kind, shape, offset, bytes })
}

/// Makes offsets count from the start of the file, whose data begin at `start`; gives the end of the last tensor. No name is there
/// twice, and no byte belongs to two tensors.
fn placed(tensors: &mut [Tensor], start: u64) -> Result<u64, Fault> {
    let mut names = BTreeSet::new();
    if let Some(twice) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        return Err(format!("tensor {:?} is there twice", twice.name).into());
    }
    for tensor in &mut *tensors {
        let offset = tensor.offset.checked_add(start).filter(|offset| offset.checked_add(tensor.bytes).is_some());
        tensor.offset = offset.ok_or_else(|| format!("tensor {:?} lies beyond any file", tensor.name))?;
    }
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset);
    if let Some(pair) = order.windows(2).find(|pair| pair[0].offset + pair[0].bytes > pair[1].offset) {
        return Err(format!("tensors {:?} and {:?} overlap", pair[0].name, pair[1].name).into());
    }
    Ok(order.last().map_or(start, |last| last.offset + last.bytes))
}
