//! What can be wrong with a form, or become wrong with it.

use thiserror::Error;

/// Why there is no grammar, or none any more. All of it is the request's to mend.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GrammarError {
    /// More of it than is read.
    #[error("{what} of {found} bytes: {most} are read at most")]
    Large {
        /// What it is of.
        what: &'static str,
        /// Its bytes.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// Parts within parts.
    #[error("{what} whose parts lie more than {most} deep in each other")]
    Deep {
        /// What it is of.
        what: &'static str,
        /// How deep they may lie.
        most: usize,
    },
    /// Not to be read, not to be kept to, or of no text at all.
    #[error("{0}")]
    Form(String),
    /// It takes more work than a token may, or none of the model's tokens can come next.
    #[error("what may come next cannot be found: {0}")]
    Stuck(String),
    /// A token that the grammar has no place for.
    #[error("token {token} has no place in the grammar: {why}")]
    Misplaced {
        /// The token.
        token: u32,
        /// What is wrong with it.
        why: String,
    },
    /// The model's tokens cannot be laid out for it.
    #[error("the model's tokens: {0}")]
    Tokens(String),
}

/// A fault of the library in one sentence, without the state that it may print.
pub(crate) fn said(fault: &impl ToString) -> String {
    let text = fault.to_string();
    let sentence = text.split("\n<").next().unwrap_or_default().trim();
    sentence.chars().take(500).collect()
}
