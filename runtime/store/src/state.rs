//! What can be said of a block on the disk without reading its data.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use lime_model::BlockLayout;
use lime_plan::Bytes;

use crate::{digest::Digest, disk, header, part::Part};

/// What can be said of a block on the disk without reading its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Nothing of it is there.
    Absent,
    /// Some of it is there; a pull goes on from it.
    Partial(Bytes),
    /// It is there; size and header are right, and this is the digest that its data must have.
    Whole(Digest),
    /// It is there and is not what it must be.
    Damaged(String),
    /// It is there, and the disk does not give it: it may be whole. It is made anew beside what is there, which is not given up before.
    Unreadable(String),
}

impl BlockState {
    /// What is wrong with it, where something is.
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Damaged(reason) | Self::Unreadable(reason) => Some(reason),
            Self::Absent | Self::Partial(_) | Self::Whole(_) => None,
        }
    }
}

/// Looks at the file at `path`, which should hold `part` of the model `key`.
pub(crate) fn look(path: &Path, key: &str, part: Part, layout: &BlockLayout) -> BlockState {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return BlockState::Absent,
        Err(fault) => return BlockState::Unreadable(format!("cannot be opened: {fault}")),
    };
    let size = header_bytes(key, part, layout);
    let found = match file.metadata() {
        Ok(data) => data.len(),
        Err(fault) => return BlockState::Unreadable(format!("cannot be read: {fault}")),
    };
    if found != size + layout.bytes {
        return BlockState::Damaged(format!("has {found} bytes instead of {}", size + layout.bytes));
    }
    let mut bytes = vec![0; size as usize];
    if let Err(fault) = disk::patiently(|| file.read_exact_at(&mut bytes, 0)) {
        return BlockState::Unreadable(format!("cannot be read: {fault}"));
    }
    match header::digest_in(&bytes) {
        Some(digest) if header::header(key, part, layout, digest) == bytes => BlockState::Whole(digest),
        _ => BlockState::Damaged("its header is damaged or of another model".into()),
    }
}

/// The size of the header of a file: where its data begins.
pub(crate) fn header_bytes(key: &str, part: Part, layout: &BlockLayout) -> u64 {
    header::header(key, part, layout, Digest::of_block([])).len() as u64
}
