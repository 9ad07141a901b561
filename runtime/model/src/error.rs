//! What can go wrong with a model's files and with what is asked of them.

use std::path::PathBuf;

use lime_files::FileError;
use thiserror::Error;

/// A fault that names the thing and says what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file that cannot be read, or does not say what it must.
    #[error(transparent)]
    File(#[from] FileError),
    /// Weights in a form that is not read.
    #[error("{} is missing: {found}", path.display())]
    OtherForm {
        /// The file that would have been read.
        path: PathBuf,
        /// What is there in its place, and what to do.
        found: String,
    },
    /// A weights file or its index is damaged.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        reason: String,
    },
    /// A tensor is missing or is not what the config says.
    #[error("{}: tensor {tensor:?} {reason}", path.display())]
    Tensor {
        /// The file that holds it, or should.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// What was expected, what was found and what to do.
        reason: String,
    },
    /// A sampling parameter is out of range.
    #[error("{name} must be {expected}, got {found}")]
    Sampling {
        /// The parameter.
        name: &'static str,
        /// Its range.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// Logits that no token can be drawn from.
    #[error("the logits are not usable ({reason}): the weights are damaged or overflow their dtype")]
    Logits {
        /// What is wrong with them.
        reason: String,
    },
}
