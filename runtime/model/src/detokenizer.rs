//! Tokens to text, without the tokenizer that made them.

use std::collections::{BTreeMap, BTreeSet};

use crate::decoding::{Decoded, Decoding};

/// The texts of a model's tokens and how they become one: all of a tokenizer that answers need.
pub struct Detokenizer {
    /// The texts, one after another.
    texts: String,
    places: BTreeMap<u32, (u32, u32)>,
    special: BTreeSet<u32>,
    decoding: Decoding,
}

impl Detokenizer {
    pub(crate) fn of(tokenizer: &tokenizers::Tokenizer, named_special: &BTreeSet<u32>) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let mut special = named_special.clone();
        special.extend(added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id));
        let mut ids: BTreeSet<u32> = tokenizer.get_vocab(false).into_values().collect();
        ids.extend(added.keys());
        let (mut texts, mut places) = (String::new(), BTreeMap::new());
        for id in ids {
            let Some(text) = tokenizer.id_to_token(id) else { continue };
            // A file of tokens is read only up to a length that fits.
            let (Ok(start), Ok(length)) = (u32::try_from(texts.len()), u32::try_from(text.len())) else { break };
            texts.push_str(&text);
            places.insert(id, (start, length));
        }
        Self { texts, places, special, decoding: Decoding::of(tokenizer.get_decoder()) }
    }

    /// The text of `tokens`; ids that are no tokens have none. Equal to what a [`DecodeStream`] gives piece by piece.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> String {
        let mut stream = self.decode_stream(skip_special);
        let mut text: String = tokens.iter().map(|token| stream.push(*token)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// A decoder that takes one token at a time and gives whole characters only.
    pub fn decode_stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream { detokenizer: self, skip_special, decoded: Decoded::new(&self.decoding) }
    }

    /// The bytes that `token` adds to a text; none for an id that is no token. Not always valid UTF-8 on their own.
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        self.text(token).map(|text| self.decoding.bytes(text)).unwrap_or_default()
    }

    /// Whether `token` is a special token, which is not part of an answer's text.
    pub fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }

    fn text(&self, token: u32) -> Option<&str> {
        let (start, length) = *self.places.get(&token)?;
        Some(&self.texts[start as usize..(start + length) as usize])
    }
}

/// Turns tokens into text as they come. The pieces together are the text of the whole, as the `tokenizers` library
/// decodes it: what the next token may still change is held back.
pub struct DecodeStream<'a> {
    detokenizer: &'a Detokenizer,
    skip_special: bool,
    decoded: Decoded,
}

impl DecodeStream<'_> {
    /// Takes the next token and gives the text that is certain now, perhaps none.
    pub fn push(&mut self, token: u32) -> String {
        if self.skip_special && self.detokenizer.is_special(token) {
            return String::new();
        }
        self.detokenizer.text(token).map(|text| self.decoded.push(text.to_owned())).unwrap_or_default()
    }

    /// Ends the text and gives what was held back. What is pushed after it goes on after that text.
    pub fn finish(&mut self) -> String {
        self.decoded.finish()
    }
}
