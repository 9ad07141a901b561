//! The small files of a model in the store compared with the digests that its manifest has of them.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use lime_files::open_regular;

use crate::{card::SMALL_FILE, error::StoreError, file_digest::sha256};

/// What became of a model's small files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardState {
    /// Files that were compared.
    pub files: usize,
    /// Those that are not what they were, with what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Why nothing could be compared: the model was fetched by a version that recorded no digests, and its source cannot be asked now.
    pub unrecorded: Option<String>,
}

/// Which files of the folder `card` are not as `digests` says, with what is wrong. A file that it does not name is one too many:
/// whoever opens the model would read it.
pub(crate) fn compare(card: &Path, digests: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, StoreError> {
    let mut faults = Vec::new();
    for (name, digest) in digests {
        match read(&card.join(name)) {
            Ok(bytes) if sha256(&bytes) == *digest => {}
            Ok(bytes) => {
                let found = sha256(&bytes);
                let reason =
                    format!("has {} bytes with the SHA-256 {found}, it was written with {digest}", bytes.len());
                faults.push((name.clone(), reason));
            }
            Err(fault) => faults.push((name.clone(), format!("cannot be read: {fault}"))),
        }
    }
    for entry in fs::read_dir(card).map_err(StoreError::io("list", card))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !digests.contains_key(&name) {
            faults.push((name, "is not one of the model's files".to_owned()));
        }
    }
    Ok(faults)
}

/// The digests of all files in the folder `card`, for a manifest.
pub(crate) fn digests(card: &Path) -> Result<BTreeMap<String, String>, StoreError> {
    let mut digests = BTreeMap::new();
    for entry in fs::read_dir(card).map_err(StoreError::io("list", card))?.flatten() {
        let path = entry.path();
        let bytes = read(&path).map_err(StoreError::io("read", &path))?;
        digests.insert(entry.file_name().to_string_lossy().into_owned(), sha256(&bytes));
    }
    Ok(digests)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than there may be: such a file has another digest.
    open_regular(path)?.take(SMALL_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
