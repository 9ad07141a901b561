//! Tokens to text, as they come.

use std::sync::Arc;

use crate::{decoding::Decoded, tokenizer::Tokenizer};

/// Turns tokens into text as they come. The pieces together are the text of the whole, as the `tokenizers` library
/// decodes it: what the next token may still change is held back.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// Special tokens that are part of the text all the same.
    shown: Arc<[u32]>,
    decoded: Decoded,
}

impl Tokenizer {
    /// A decoder that takes one token at a time and gives whole characters only.
    pub fn decode_stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special)
    }
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, shown: Arc::default(), decoded: Decoded::new(tokenizer.decoding()) }
    }

    /// The same, with these special tokens as part of the text.
    #[must_use]
    pub fn showing(self, shown: Arc<[u32]>) -> Self {
        Self { shown, ..self }
    }

    /// Takes the next token and gives the text that is certain now, perhaps none.
    pub fn push(&mut self, token: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(token) && !self.shown.contains(&token) {
            return String::new();
        }
        self.tokenizer.text_of(token).map(|text| self.decoded.push(text)).unwrap_or_default()
    }

    /// Ends the text and gives what was held back. What is pushed after it goes on after that text.
    pub fn finish(&mut self) -> String {
        self.decoded.finish()
    }
}
