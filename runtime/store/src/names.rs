//! What a block's files are called.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{disk, error::StoreError, part::Part};

/// The names of a block's files.
pub(crate) struct Names {
    folder: PathBuf,
    pub(crate) whole: PathBuf,
    pub(crate) part: PathBuf,
    pub(crate) journal: PathBuf,
    pub(crate) lock: PathBuf,
}

impl Names {
    /// The names of `part` in the folder of a model's blocks.
    pub(crate) fn of(folder: PathBuf, part: Part) -> Self {
        let stem = part.stem();
        let name = |ending: &str| folder.join(format!("{stem}.{ending}"));
        Self {
            whole: folder.join(part.file_name()),
            part: name("part"),
            journal: name("journal"),
            lock: name("lock"),
            folder,
        }
    }

    /// Gives the finished block its name, for good.
    pub(crate) fn publish(&self) -> Result<(), StoreError> {
        fs::rename(&self.part, &self.whole).map_err(StoreError::writing("name", &self.whole))?;
        disk::sync_folder(&self.folder)?;
        // Without its block a journal says nothing; one that stays behind is harmless.
        let _ = fs::remove_file(&self.journal);
        Ok(())
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(StoreError::writing("remove", path)(fault)),
        _ => Ok(()),
    }
}
