//! What can go wrong with a small file from elsewhere.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A fault that names the file and says what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It must be there and is not.
    #[error("{} is missing: {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// It was read, and does not say what it must.
    #[error("{}: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        reason: String,
    },
}

impl FileError {
    /// The file that it is about.
    pub fn path(&self) -> &std::path::Path {
        let (Self::Read { path, .. } | Self::Missing { path, .. } | Self::Wrong { path, .. }) = self;
        path
    }
}
