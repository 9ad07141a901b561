//! What can go wrong between text and tokens.

use std::path::PathBuf;

use lime_files::FileError;
use thiserror::Error;

/// A fault that names the thing and says what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file that cannot be read, or does not say what it must.
    #[error(transparent)]
    File(#[from] FileError),
    /// The tokenizer could not be read or refused a text.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The chat template could not be compiled, or refused the conversation.
    #[error("chat template: {reason}")]
    Template {
        /// In the template's own words where it raised the exception itself.
        reason: String,
    },
}
