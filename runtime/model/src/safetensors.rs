//! The header of one safetensors file, read and checked without reading the weights.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use safetensors::tensor::{Dtype as StoredDtype, Metadata};

use crate::ModelError;

/// The format's own limit on a header.
const HEADER_LIMIT: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;

/// One tensor as its file's header describes it.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    pub(crate) dtype: StoredDtype,
    pub(crate) shape: Vec<usize>,
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Reads the header of the file at `path`. Every tensor in the answer lies within the file, and none overlaps another.
pub(crate) fn read_header(path: &Path, hint: &'static str) -> Result<BTreeMap<String, StoredTensor>, ModelError> {
    let damaged = |reason: String| ModelError::Weights { path: path.to_owned(), reason };
    let unreadable = |source| ModelError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => ModelError::Missing { path: path.to_owned(), hint },
        _ => unreadable(source),
    })?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size < LENGTH_BYTES {
        return Err(damaged(format!("{size} bytes are too few for a safetensors file: copy or download it again")));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_LIMIT || length > size - LENGTH_BYTES {
        return Err(damaged(format!(
            "the header claims {length} bytes, the file has {size}: not a safetensors file, or cut short; copy or download it again"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    parse_header(&header, size - LENGTH_BYTES - length, LENGTH_BYTES + length).map_err(damaged)
}

/// Parses a header whose data of `available` bytes begins at `start` of the file.
fn parse_header(header: &[u8], available: u64, start: u64) -> Result<BTreeMap<String, StoredTensor>, String> {
    // The crate's own parser proves that offsets are contiguous from 0 and agree with dtype and shape.
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|fault| format!("the safetensors header is damaged ({fault}): copy or download the file again"))?;
    let claimed = metadata.data_len() as u64;
    if claimed != available {
        let state = if claimed > available { "it is cut short" } else { "it has bytes that belong to no tensor" };
        return Err(format!(
            "the header describes {claimed} bytes of tensors, the file holds {available}: {state}; copy or download it again"
        ));
    }
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let (dtype, shape) = (info.dtype, info.shape.clone());
        (name, StoredTensor { dtype, shape, offset: start + from, bytes: to - from })
    });
    Ok(tensors.collect())
}
