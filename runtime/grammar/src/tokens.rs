//! What is known of a model's tokens.

use lime_plan::TokenSet;

/// What a token adds to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenText {
    /// These bytes, which need be no whole characters.
    Text(Vec<u8>),
    /// Nothing that can be read: it is a mark with this name.
    Mark(String),
    /// Nothing: it is never drawn where there is a grammar.
    Nothing,
}

impl TokenText {
    /// Its bytes, or those of its name.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) => bytes,
            Self::Mark(name) => name.as_bytes(),
            Self::Nothing => &[],
        }
    }
}

/// What is known of the tokens beside.
pub(crate) struct Known {
    pub(crate) tokens: Vec<TokenText>,
    pub(crate) ends: Vec<u32>,
    /// Tokens that are space alone.
    pub(crate) blank: TokenSet,
}

impl Known {
    pub(crate) fn vocabulary(&self) -> u32 {
        self.tokens.len() as u32
    }
}
