//! Tokens to text, as they come.

use crate::{decoding::Decoded, tokenizer::Tokenizer};

/// Turns tokens into text as they come. The pieces together are the text of the whole, as the `tokenizers` library
/// decodes it: what the next token may still change is held back.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    decoded: Decoded,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, decoded: Decoded::new(tokenizer.decoding()) }
    }

    /// Takes the next token and gives the text that is certain now, perhaps none.
    pub fn push(&mut self, token: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(token) {
            return String::new();
        }
        self.tokenizer.text_of(token).map(|text| self.decoded.push(text)).unwrap_or_default()
    }

    /// Ends the text and gives what was held back. What is pushed after it goes on after that text.
    pub fn finish(&mut self) -> String {
        self.decoded.finish()
    }
}
