//! The header of one safetensors file, read and checked without reading the weights.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use lime_files::FileError;
use lime_plan::Format;
use safetensors::tensor::{Dtype as StoredDtype, Metadata};

use crate::error::ModelError;

/// Longer headers are refused before they are read. The format allows 100 MB, over a million tensors; the largest that are known have
/// under 12 MB, and what they are parsed to takes several times as much.
const HEADER_LIMIT: u64 = 16 << 20;
const LENGTH_BYTES: u64 = 8;

/// Tensors by their names: the file of each, and where in it.
pub(crate) type Tensors = BTreeMap<String, (PathBuf, StoredTensor)>;

/// One tensor as its file's header describes it.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    /// The name of its type, where that is none that is run.
    pub(crate) format: Result<Format, String>,
    pub(crate) shape: Vec<usize>,
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// Whether the rows of each head that are rotated together lie together, whatever is usual in the family.
    pub(crate) rotated: bool,
}

/// The file with the header alone (length and JSON) of the weights file at `path`: what the weight store keeps of a file
/// whose tensors lie in blocks, or elsewhere.
pub fn header_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".header");
    name.into()
}

/// Checks the header of a safetensors file of `file_bytes` bytes, of which `prefix` holds the length and the whole header
/// and nothing more. Errors name `path`.
///
/// # Errors
/// When it is damaged, or does not describe a file of that size.
pub fn check_header(path: &Path, prefix: &[u8], file_bytes: u64) -> Result<(), ModelError> {
    let damaged = |reason: String| ModelError::Weights { path: path.to_owned(), reason };
    let (start, size) = (prefix.len() as u64, header_bytes(prefix).map_err(damaged)?);
    if size != start || file_bytes < size {
        return Err(damaged(format!("the header has {size} bytes, {start} were read of a file of {file_bytes}")));
    }
    let metadata = parse(&prefix[LENGTH_BYTES as usize..]).map_err(damaged)?;
    locate(&metadata, file_bytes - size, size).map(|_| ()).map_err(damaged)
}

/// The size of a header, its own length counted, as the first bytes of a safetensors file say.
///
/// # Errors
/// When `prefix` has fewer than eight bytes, or they claim more than the format allows.
pub fn header_bytes(prefix: &[u8]) -> Result<u64, String> {
    let length = prefix.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let length = length.ok_or_else(|| format!("{} bytes are too few for a safetensors file", prefix.len()))?;
    if length > HEADER_LIMIT {
        return Err(format!(
            "the header claims {length} bytes, more than the {HEADER_LIMIT} that are read: not a safetensors file, or far too many tensors"
        ));
    }
    Ok(LENGTH_BYTES + length)
}

/// Reads the header of the file at `path`, or of its [`header_file`] where the weights themselves are elsewhere. Every
/// tensor in the answer lies within the file, and none overlaps another.
pub(crate) fn read_header(path: &Path, hint: &'static str) -> Result<BTreeMap<String, StoredTensor>, ModelError> {
    // Opening a pipe would wait for its other end.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let reason = "it is not a file, but a folder, pipe or device".to_owned();
        return Err(ModelError::Weights { path: path.to_owned(), reason });
    }
    match File::open(path) {
        Ok(file) => read_open(path, file, false),
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            let alone = header_file(path);
            let file = File::open(&alone).map_err(|_| FileError::Missing { path: path.to_owned(), hint })?;
            read_open(&alone, file, true)
        }
        Err(source) => Err(FileError::Read { path: path.to_owned(), source }.into()),
    }
}

/// Reads the header of an open file, which ends with it where it is `alone`.
fn read_open(path: &Path, mut file: File, alone: bool) -> Result<BTreeMap<String, StoredTensor>, ModelError> {
    let damaged = |reason: String| ModelError::Weights { path: path.to_owned(), reason };
    let unreadable = |source| FileError::Read { path: path.to_owned(), source };
    let size = file.metadata().map_err(unreadable)?.len();
    if size < LENGTH_BYTES {
        return Err(damaged(format!("{size} bytes are too few for a safetensors file: copy or download it again")));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    header_bytes(&length.to_le_bytes()).map_err(damaged)?;
    if length > size - LENGTH_BYTES {
        return Err(damaged(format!(
            "the header claims {length} bytes, the file has {size}: not a safetensors file, or cut short; copy or download it again"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    let rest = size - LENGTH_BYTES - length;
    if alone && rest != 0 {
        return Err(damaged(format!("{rest} bytes follow the header: remove this file and pull the model again")));
    }
    let metadata = parse(&header).map_err(damaged)?;
    let available = if alone { metadata.data_len() as u64 } else { rest };
    locate(&metadata, available, LENGTH_BYTES + length).map_err(damaged)
}

/// Parses a header. The crate's own parser proves that offsets are contiguous from 0 and agree with dtype and shape.
fn parse(header: &[u8]) -> Result<Metadata, String> {
    serde_json::from_slice(header)
        .map_err(|fault| format!("the safetensors header is damaged ({fault}): copy or download the file again"))
}

/// The tensors of a header whose data of `available` bytes begins at `start` of the file.
fn locate(metadata: &Metadata, available: u64, start: u64) -> Result<BTreeMap<String, StoredTensor>, String> {
    let claimed = metadata.data_len() as u64;
    if claimed != available {
        let state = if claimed > available { "it is cut short" } else { "it has bytes that belong to no tensor" };
        return Err(format!(
            "the header describes {claimed} bytes of tensors, the file holds {available}: {state}; copy or download it again"
        ));
    }
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let (format, shape) = (format(info.dtype), info.shape.clone());
        (name, StoredTensor { format, shape, offset: start + from, bytes: to - from, rotated: false })
    });
    Ok(tensors.collect())
}

/// The types of safetensors that LIME computes with.
const FORMATS: [(StoredDtype, Format); 3] =
    [(StoredDtype::BF16, Format::Bf16), (StoredDtype::F16, Format::F16), (StoredDtype::F32, Format::F32)];

fn format(stored: StoredDtype) -> Result<Format, String> {
    let known = FORMATS.into_iter().find(|(dtype, _)| *dtype == stored);
    known.map(|(_, format)| format).ok_or_else(|| stored.to_string())
}

/// What a safetensors header calls a format; `None` where it has no name for it.
pub fn safetensors_dtype(format: Format) -> Option<String> {
    let known = FORMATS.into_iter().find(|(_, known)| *known == format);
    known.map(|(dtype, _)| dtype.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_too_many_tensors_is_refused_by_its_length() {
        assert_eq!(header_bytes(&HEADER_LIMIT.to_le_bytes()), Ok(LENGTH_BYTES + HEADER_LIMIT));
        for length in [HEADER_LIMIT + 1, 99_000_000, u64::MAX] {
            assert!(header_bytes(&length.to_le_bytes()).unwrap_err().contains("too many tensors"), "{length}");
        }
        assert!(header_bytes(&[0; 7]).is_err());
    }

    #[test]
    fn formats_that_safetensors_knows_have_its_names() {
        let names = [Format::Bf16, Format::F16, Format::F32, Format::CompactBf16, Format::Q8_0].map(safetensors_dtype);
        let known = ["BF16", "F16", "F32"].map(|name| Some(name.to_owned()));
        assert_eq!(names[..3], known);
        assert_eq!(names[3..], [None, None]);
    }

    #[test]
    fn a_folder_or_a_pipe_is_no_weights_file() {
        let folder = tempfile::tempdir().unwrap();
        let fault = read_header(folder.path(), "").unwrap_err().to_string();
        assert!(fault.contains("not a file"), "{fault}");
    }
}
