//! What can go wrong with the store and with the places that it is filled from.

use std::{io, path::PathBuf};

use lime_model::ModelError;
use lime_plan::Bytes;
use thiserror::Error;

/// A fault that names the thing and says what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store's folder may not be written to.
    #[error(
        "cannot {action} {}: {source}; the weight store must be writable: put it elsewhere (--store, LIME_STORE), or let this user write there",
        path.display()
    )]
    Unwritable {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk has no room.
    #[error(
        "{} needs {wanted} more and its disk has {free} free: free {short} there, remove models with `lime store prune`, or put the store elsewhere (--store, LIME_STORE)",
        path.display()
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes to be written.
        wanted: Bytes,
        /// Bytes that the disk has.
        free: Bytes,
        /// What is lacking.
        short: Bytes,
    },
    /// A source that is not understood.
    #[error(
        "{source_text:?} is not a model source ({reason}): use hf://ORG/NAME, http(s)://HOST/FOLDER, file://FOLDER or a folder's path; of GGUF files hf://ORG/NAME:QUANT, hf://ORG/NAME/FILE.gguf, or the file in the folder's place"
    )]
    Source {
        /// As it was given.
        source_text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model's own files are wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file of the store is not what it must be.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        reason: String,
    },
    /// A model was brought into the store by a version after this one.
    #[error("{}: written in form {found}, this build reads forms up to {known}: use another folder, or a newer build", path.display())]
    OtherForm {
        /// The manifest.
        path: PathBuf,
        /// Its form.
        found: u32,
        /// The last one that is known here.
        known: u32,
    },
    /// A block is not in the store.
    #[error("block {block} of {model} is not in the store: `lime pull` it first")]
    Missing {
        /// The block.
        block: String,
        /// The model's name.
        model: String,
    },
    /// The source is not what it was when its headers were read.
    #[error(
        "{file} has changed at its source since its header was read ({reason}): pull again, which takes it as a new model"
    )]
    Changed {
        /// The file.
        file: String,
        /// How.
        reason: String,
    },
    /// Bytes that were written come back as others.
    #[error("{}: the disk returns other bytes than were written, {times} times in a row: check the disk", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// How often it was tried.
        times: u32,
    },
    /// A server refused, or answered what it must not.
    #[error("{url}: {reason}")]
    Remote {
        /// What was asked for, without parameters.
        url: String,
        /// What it answered and what to do.
        reason: String,
        /// The same for programs.
        cause: RemoteCause,
    },
    /// A file that the model needs is not at its source.
    #[error("{file} is not in {model}: {hint}")]
    NotThere {
        /// The file.
        file: String,
        /// The source.
        model: String,
        /// What is there in its place, and what to do.
        hint: String,
    },
}

/// Why a server did not give what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteCause {
    /// Whoever asks may not have it, or did not say who asks.
    Forbidden,
    /// There is no such model, revision or file.
    Unknown,
    /// It could not be reached, is in trouble, or does not answer as it must.
    Trouble,
}

impl StoreError {
    /// Turns an I/O error into one of the store; for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The same of an attempt to change the store, told apart where that is not allowed.
    pub(crate) fn writing(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            // Also where a part of the path is a file.
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
                Self::Unwritable { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}
