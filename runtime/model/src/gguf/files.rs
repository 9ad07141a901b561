//! GGUF files on a disk: their names, their parts, and how much of them is header.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use lime_files::{FileError, open_regular};

use super::{
    cursor::Fault,
    header::{HEADER_LIMIT, Header},
};
use crate::{error::ModelError, safetensors::header_file};

/// Most headers fit into this.
const FIRST_LOOK: u64 = 1 << 20;
/// No model is in so many files.
const MOST_PARTS: u32 = 1024;

/// Whether a file's name says that it is a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The names of all files of the model of which `name` is one: itself, or all parts in order where it is named
/// `…-00001-of-00003.gguf` or the like.
///
/// # Errors
/// A name whose numbers contradict each other.
pub fn gguf_parts(name: &str) -> Result<Vec<String>, String> {
    let Some((stem, number, count, ending)) = split(name) else { return Ok(vec![name.to_owned()]) };
    if !(1..=MOST_PARTS).contains(&count) || !(1..=count).contains(&number) {
        return Err(format!("{name:?} would be part {number} of {count}"));
    }
    Ok((1..=count).map(|number| format!("{stem}-{number:05}-of-{count:05}{ending}")).collect())
}

fn split(name: &str) -> Option<(&str, u32, u32, &str)> {
    let dot = name.len().checked_sub(".gguf".len())?;
    let (whole, ending) = (name.get(..dot)?, name.get(dot..)?);
    let (rest, count) = whole.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-').filter(|(stem, _)| !stem.is_empty())?;
    let five = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 5);
    Some((stem, five(number)?, five(count)?, ending))
}

/// The bytes of the header of a GGUF file, of which `prefix` is the beginning; where more of it is needed to tell, `None` and how
/// much at least.
///
/// # Errors
/// When it is damaged.
pub fn gguf_header_bytes(prefix: &[u8]) -> Result<(Option<u64>, u64), String> {
    match Header::parse(prefix) {
        Ok(header) => Ok((Some(header.bytes), header.end)),
        Err(Fault::Short(needed)) if needed > HEADER_LIMIT => Err(too_long()),
        Err(Fault::Short(needed)) => Ok((None, needed.max(prefix.len() as u64 * 2).min(HEADER_LIMIT))),
        Err(Fault::Damaged(reason)) => Err(reason),
    }
}

fn too_long() -> String {
    format!("its header is longer than the {HEADER_LIMIT} bytes that are read: damaged, or not a GGUF file")
}

/// The paths of all parts of the model of which the file at `path` is one.
pub(super) fn parts_of(path: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let damaged = |reason: String| ModelError::Weights { path: path.to_owned(), reason };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| damaged("its name is no text".into()))?;
    Ok(gguf_parts(name).map_err(damaged)?.into_iter().map(|name| path.with_file_name(name)).collect())
}

/// Reads the header of one file, or of its [`header_file`] where the file itself is elsewhere.
pub(super) fn read(path: PathBuf) -> Result<(PathBuf, Header), ModelError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| FileError::Read { path, source }
    };
    let (mut file, at, alone) = match open_regular(&path) {
        Ok(file) => (file, path.clone(), false),
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            let alone = header_file(&path);
            let hint = "a GGUF model in several files needs all of them in one folder";
            let file = open_regular(&alone).map_err(|_| FileError::Missing { path: path.clone(), hint })?;
            (file, alone, true)
        }
        Err(source) => return Err(FileError::Read { path, source }.into()),
    };
    let size = file.metadata().map_err(unreadable(&at))?.len();
    let header = grow(&at, &mut file, size)?;
    let expected = if alone { header.bytes } else { header.end };
    if size < expected || alone && size > expected {
        let reason =
            format!("it has {size} bytes, its header speaks of {expected}: it is cut short; copy or download it again");
        return Err(ModelError::Weights { path: at, reason });
    }
    Ok((path, header))
}

/// Reads more of a file until its header is whole.
fn grow(path: &Path, file: &mut File, size: u64) -> Result<Header, ModelError> {
    let damaged = |reason: String| ModelError::Weights { path: path.to_owned(), reason };
    let (mut prefix, mut wanted) = (Vec::new(), FIRST_LOOK);
    loop {
        let more = wanted.min(size) - prefix.len() as u64;
        let read = file.take(more).read_to_end(&mut prefix);
        read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        let short = || damaged("its header ends with the file: it is cut short; copy or download it again".into());
        match Header::parse(&prefix) {
            Ok(header) => return Ok(header),
            Err(Fault::Damaged(reason)) => return Err(damaged(reason)),
            Err(Fault::Short(needed)) if needed > size || prefix.len() as u64 >= size => return Err(short()),
            Err(Fault::Short(needed)) if needed > HEADER_LIMIT => return Err(damaged(too_long())),
            Err(Fault::Short(needed)) => wanted = needed.max(wanted * 2).min(HEADER_LIMIT.max(needed)),
        }
    }
}

/// Reads a header that is known to be whole.
pub(super) fn parse(path: PathBuf, bytes: &[u8]) -> Result<(PathBuf, Header), ModelError> {
    match Header::parse(bytes) {
        Ok(header) => Ok((path, header)),
        Err(Fault::Damaged(reason)) => Err(ModelError::Weights { path, reason }),
        Err(Fault::Short(_)) => Err(ModelError::Weights { path, reason: "its header is cut short".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_by_number_and_count() {
        assert_eq!(gguf_parts("a.Q8_0.gguf").unwrap(), ["a.Q8_0.gguf"]);
        assert_eq!(gguf_parts("a-00002-of-00002.gguf").unwrap(), ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]);
        for whole in ["a-of-b.gguf", "a-1-of-2.gguf", "-00001-of-00001.gguf", ".gguf", "é.gguf"] {
            assert_eq!(gguf_parts(whole).unwrap(), [whole]);
        }
        for wrong in ["a-00003-of-00002.gguf", "a-00000-of-00001.gguf", "a-00001-of-99999.gguf"] {
            assert!(gguf_parts(wrong).unwrap_err().contains("would be part"), "{wrong}");
        }
    }
}
