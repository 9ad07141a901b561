//! What can go wrong with a model's files and with what is asked of them.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A fault that names the thing and says what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("{} is missing: {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// Weights in a form that is not read.
    #[error("{} is missing: {found}", path.display())]
    OtherForm {
        /// The file that would have been read.
        path: PathBuf,
        /// What is there in its place, and what to do.
        found: String,
    },
    /// `config.json` or `generation_config.json` is wrong, or asks for what this build cannot run.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        reason: String,
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
