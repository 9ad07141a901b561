//! One page as a file: a header of 4 KiB, and the page, padded so that it can be read directly.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lime_plan::PageName;

use crate::{
    digest::Digest,
    disk::{DiskReader, Filling},
    error::StoreError,
};

/// What a file begins with: the form of what follows.
const MAGIC: &[u8; 8] = b"LIMEKV01";
const HEADER: usize = 4096;

/// Bytes of the file of a page of `page` bytes.
pub(super) const fn file_bytes(page: usize) -> u64 {
    (HEADER + page.next_multiple_of(HEADER)) as u64
}

/// The name of a file that is being written.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// Writes a page under a name of its own, and renames it. It is out of the page cache then.
pub(super) fn write(path: &Path, name: &PageName, page: &[u8]) -> Result<(), StoreError> {
    let part = unfinished(path);
    let mut filling = Filling::open(&part, file_bytes(page.len()))?;
    filling.write(&header(name, page), 0)?;
    filling.write(page, HEADER as u64)?;
    filling.flush()?;
    drop(filling);
    fs::rename(&part, path).map_err(StoreError::writing("name", path))
}

/// Fills `page` with what was written under `name`.
pub(super) fn read(reader: &mut DiskReader, path: &Path, name: &PageName, page: &mut [u8]) -> Result<(), StoreError> {
    let (mut found, mut at) = (vec![0; HEADER], 0);
    let whole = file_bytes(page.len());
    reader.read(path, 0, whole, &mut |chunk| {
        let (head, body) = chunk.split_at(HEADER.saturating_sub(at).min(chunk.len()));
        found[at.min(HEADER)..][..head.len()].copy_from_slice(head);
        let from = at.saturating_sub(HEADER).min(page.len());
        let taken = body.len().min(page.len() - from);
        page[from..from + taken].copy_from_slice(&body[..taken]);
        at += chunk.len();
    })?;
    if found == header(name, page) {
        return Ok(());
    }
    let reason = "it is not the KV page that was written: it is removed, and computed again";
    Err(StoreError::Damaged { path: path.to_owned(), reason: reason.to_owned() })
}

fn header(name: &PageName, page: &[u8]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(name.as_bytes());
    header.extend((page.len() as u64).to_le_bytes());
    header.extend(Digest::of_bytes(page).0.to_le_bytes());
    header.resize(HEADER, 0);
    header
}
