//! Tokens to bytes to text, one token at a time.

use tokenizers::DecoderWrapper;

use crate::Tokenizer;

/// How a tokenizer's vocabulary writes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteStyle {
    /// GPT-2's: every byte is a printable character.
    ByteLevel,
    /// SentencePiece's: `▁` for a space, `<0x0A>` for a byte; perhaps one space at the start of a text is not part of it.
    Pieces { strip_start: bool },
    /// Tokens are their text.
    Plain,
}

impl ByteStyle {
    pub(crate) fn of(decoder: Option<&DecoderWrapper>) -> Self {
        match decoder {
            Some(DecoderWrapper::ByteLevel(_)) => Self::ByteLevel,
            Some(DecoderWrapper::Metaspace(metaspace)) => {
                let never = tokenizers::pre_tokenizers::metaspace::PrependScheme::Never;
                Self::Pieces { strip_start: metaspace.get_prepend_scheme() != never }
            }
            Some(DecoderWrapper::Sequence(sequence)) => {
                let parts = sequence.get_decoders();
                let any = |wanted: fn(&DecoderWrapper) -> bool| parts.iter().any(wanted);
                if any(|part| matches!(part, DecoderWrapper::ByteLevel(_))) {
                    Self::ByteLevel
                } else if any(|part| matches!(part, DecoderWrapper::ByteFallback(_))) {
                    let strips =
                        |part: &DecoderWrapper| matches!(part, DecoderWrapper::Strip(strip) if strip.start > 0);
                    Self::Pieces { strip_start: any(strips) }
                } else {
                    Self::Plain
                }
            }
            _ => Self::Plain,
        }
    }

    /// The bytes of a token's text in the vocabulary.
    pub(crate) fn bytes(self, text: &str) -> Vec<u8> {
        match self {
            // A token with a character outside the alphabet was added as it is.
            Self::ByteLevel => text.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| text.into()),
            Self::Pieces { .. } => match fallback_byte(text) {
                Some(byte) => vec![byte],
                None => text.replace('▁', " ").into_bytes(),
            },
            Self::Plain => text.into(),
        }
    }

    const fn strips_start(self) -> bool {
        matches!(self, Self::Pieces { strip_start: true })
    }
}

/// The byte that a character of GPT-2's alphabet stands for.
const fn byte_of(character: char) -> Option<u8> {
    match character as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        // The other bytes, ascending, are the characters from 256 on.
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The byte of a token like `<0x0A>`.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Turns tokens into text as they come. The pieces together are the text of the whole: what is not yet a whole
/// character is held back, what can never become one is `U+FFFD`.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    at_start: bool,
    pending: Vec<u8>,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, at_start: tokenizer.style().strips_start(), pending: Vec::new() }
    }

    /// Takes the next token and gives the text that is complete now, perhaps none.
    pub fn push(&mut self, token: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(token) {
            return String::new();
        }
        let bytes = self.tokenizer.token_bytes(token);
        let mut bytes = bytes.as_slice();
        if self.at_start && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.at_start = false;
        }
        self.pending.extend_from_slice(bytes);
        self.take_complete()
    }

    /// Ends the text and gives what was held back.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        while let Err(fault) = std::str::from_utf8(rest) {
            let (valid, after) = rest.split_at(fault.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            rest = after;
            // Without a length the end is cut off in the middle of a character, which the next token may complete.
            let Some(length) = fault.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[length..];
        }
        if let Ok(valid) = std::str::from_utf8(rest) {
            text.push_str(valid);
            rest = &[];
        }
        let held_back = self.pending.len() - rest.len()..;
        self.pending = self.pending[held_back].to_vec();
        text
    }
}
