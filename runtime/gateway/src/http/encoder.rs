//! Texts to tokens, with little work for what does not fit.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{error::ApiError, extent::Extent, fields::wrong_value, job::Prompt};
use crate::text::TextModel;

/// A text is read whole only where its first bytes, so many for each token of the context, do not show already that it is far
/// too long. Most texts are shorter than that.
const LOOK_AT: usize = 8;
/// As many tokens more than fit are certainly too many: where a text is cut changes the last few tokens before.
const CLEARLY: usize = 2;
const AND: usize = 64;

/// Reads the texts of one request.
#[derive(Clone, Copy)]
pub(super) struct Encoder<'a> {
    pub(super) text: &'a TextModel,
    pub(super) extent: Extent,
    /// Nobody waits for the tokens any more.
    given_up: &'a AtomicBool,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(text: &'a TextModel, extent: Extent, given_up: &'a AtomicBool) -> Self {
        Self { text, extent, given_up }
    }

    /// The tokens of a prompt, every one of which the model has a row for.
    pub(super) fn prompt(&self, param: &str, text: &str, special: bool, echo: String) -> Result<Prompt, ApiError> {
        self.extent.check_text(param, text.len())?;
        self.look(param, text)?;
        self.go_on()?;
        let tokens = self.text.encode(text, special).map_err(|fault| wrong_value(param, fault))?;
        if tokens.is_empty() {
            return Err(wrong_value(param, "it has no tokens, and this model has none to begin a text with"));
        }
        self.known(param, tokens, echo)
    }

    /// A prompt of `tokens`, where the model has a row for each.
    pub(super) fn known(&self, param: &str, tokens: Vec<u32>, echo: String) -> Result<Prompt, ApiError> {
        let rows = self.text.vocabulary;
        if let Some(unknown) = tokens.iter().find(|token| **token >= rows) {
            let written = self.text.tokenizer.token_bytes(*unknown);
            let written = String::from_utf8_lossy(&written).into_owned();
            let what = format!(
                "the token {written:?} is number {unknown} of the tokenizer, and this model knows 0 to {} only",
                rows.saturating_sub(1)
            );
            return Err(wrong_value(param, what));
        }
        Ok(Prompt { tokens: Arc::from(tokens), echo })
    }

    /// Looks at longer and longer beginnings of a long text.
    fn look(&self, param: &str, text: &str) -> Result<(), ApiError> {
        let context = self.extent.context as usize;
        let most = context * CLEARLY + AND;
        let mut bytes = context * LOOK_AT;
        while bytes < text.len() {
            self.go_on()?;
            let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            let part = &text[..end];
            let found = self.text.encode(part, false).map_err(|fault| wrong_value(param, fault))?.len();
            if found > most {
                let (part, all) = (part.len(), text.len());
                let what = format!("the first {part} of the {all} bytes of your {param} have {found} tokens");
                return Err(ApiError::context_in_words(param, self.extent.context, &what));
            }
            bytes *= 2;
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), ApiError> {
        if self.given_up.load(Ordering::Relaxed) { Err(ApiError::slow_text()) } else { Ok(()) }
    }
}
