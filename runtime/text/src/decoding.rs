//! A tokenizer's decoder, one token at a time: what the steps together give is what `tokenizers` gives for the whole.
//!
//! Each step takes the texts of tokens and hands on texts. Most look at one token and at whether it is the first;
//! some have to wait: for the end of a run of bytes, for the next token, or for the end of the text.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokenizers::{Decoder as _, DecoderWrapper};

/// A decoder's steps in their order; none where tokens are words, which a space separates.
#[derive(Clone, Debug)]
pub(crate) struct Decoding {
    steps: Vec<Rule>,
    separated: bool,
}

/// The library's steps are shared by all streams: a copy would compile its expression again.
#[derive(Clone, Debug)]
enum Rule {
    /// Looks at one text and at whether it is the first.
    Each(Arc<DecoderWrapper>),
    /// Drops a text that repeats the one before.
    Unrepeated(Arc<DecoderWrapper>),
    /// Writes the last text otherwise.
    LastDiffers(Arc<DecoderWrapper>),
    /// `<0x0A>` is a byte; a run of bytes is read together.
    ByteFallback(Arc<DecoderWrapper>),
    /// GPT-2's alphabet: every character is a byte, and the text is read as a whole.
    ByteLevel,
    /// From here on the text is one.
    Fuse,
    /// Of the whole text, spaces at its two ends, so many at most.
    Ends { content: char, start: usize, stop: usize },
    /// Of the whole text, whatever it is: nothing is known before the end.
    Whole(Arc<DecoderWrapper>),
}

impl Decoding {
    /// The steps of a tokenizer's decoder.
    pub(crate) fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let mut parts = Vec::new();
        flatten(decoder, &mut parts);
        let mut whole = false;
        let steps = parts.into_iter().map(|part| rule(part, &mut whole)).collect();
        Self { steps, separated: decoder.is_none() }
    }

    /// Whether tokens are written in GPT-2's alphabet of bytes.
    fn is_byte_level(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Rule::ByteLevel))
    }

    /// Whether the bytes of tokens one after the other are those of their text.
    pub(crate) fn is_by_token(&self) -> bool {
        let by_token = |step: &Rule| match step {
            Rule::Each(part) => !matches!(**part, DecoderWrapper::WordPiece(_)),
            Rule::ByteFallback(_) | Rule::ByteLevel | Rule::Fuse => true,
            Rule::Ends { stop, .. } => *stop == 0,
            Rule::Unrepeated(_) | Rule::LastDiffers(_) | Rule::Whole(_) => false,
        };
        !self.separated && self.steps.iter().all(by_token)
    }

    /// The bytes of a token in the middle of a text. Not always valid UTF-8 on their own.
    pub(crate) fn bytes(&self, text: &str) -> Vec<u8> {
        if self.is_byte_level() {
            return byte_level(text);
        }
        let reads_bytes = self.steps.iter().any(|step| matches!(step, Rule::ByteFallback(_)));
        if let Some(byte) = fallback_byte(text).filter(|_| reads_bytes) {
            return vec![byte];
        }
        let each = self.steps.iter().filter_map(|step| match step {
            Rule::Each(part) => Some(part),
            _ => None,
        });
        each.fold(text.to_owned(), |text, part| alone(part, text, false)).into_bytes()
    }
}

fn flatten<'a>(decoder: Option<&'a DecoderWrapper>, parts: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        Some(DecoderWrapper::Sequence(sequence)) => {
            sequence.get_decoders().iter().for_each(|part| flatten(Some(part), parts));
        }
        Some(part) => parts.push(part),
        None => {}
    }
}

fn rule(part: &DecoderWrapper, whole: &mut bool) -> Rule {
    match part {
        DecoderWrapper::Fuse(_) => {
            *whole = true;
            Rule::Fuse
        }
        DecoderWrapper::Strip(strip) if *whole => {
            Rule::Ends { content: strip.content, start: strip.start, stop: strip.stop }
        }
        _ if *whole => Rule::Whole(Arc::new(part.clone())),
        DecoderWrapper::ByteLevel(_) => {
            *whole = true;
            Rule::ByteLevel
        }
        DecoderWrapper::ByteFallback(_) => Rule::ByteFallback(Arc::new(part.clone())),
        DecoderWrapper::CTC(_) => Rule::Unrepeated(Arc::new(part.clone())),
        DecoderWrapper::BPE(_) => Rule::LastDiffers(Arc::new(part.clone())),
        _ => Rule::Each(Arc::new(part.clone())),
    }
}

/// Decoding under way.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    steps: Vec<Step>,
    separated: bool,
    first: bool,
}

#[derive(Clone, Debug)]
struct Step {
    rule: Rule,
    /// Whether a text has gone through.
    begun: bool,
    /// What waits, for what comes next or for the end.
    held: Vec<String>,
    /// Bytes that are not yet a whole character.
    bytes: Vec<u8>,
    /// Characters that were taken off at the start.
    taken: usize,
}

impl Decoded {
    pub(crate) fn new(decoding: &Decoding) -> Self {
        let step = |rule: &Rule| Step { rule: rule.clone(), begun: false, held: vec![], bytes: vec![], taken: 0 };
        Self { steps: decoding.steps.iter().map(step).collect(), separated: decoding.separated, first: true }
    }

    /// Takes a token's text, gives what is certain now.
    pub(crate) fn push(&mut self, token: String) -> String {
        if self.separated {
            let text = if self.first { token } else { format!(" {token}") };
            self.first = false;
            return text;
        }
        self.steps
            .iter_mut()
            .fold(vec![token], |texts, step| texts.into_iter().flat_map(|text| step.push(text)).collect())
            .concat()
    }

    /// Gives what waited for the end.
    pub(crate) fn finish(&mut self) -> String {
        let steps = self.steps.iter_mut();
        let last = steps.fold(Vec::new(), |texts: Vec<String>, step| {
            let mut on: Vec<String> = texts.into_iter().flat_map(|text| step.push(text)).collect();
            on.extend(step.finish());
            on
        });
        last.concat()
    }
}

impl Step {
    fn push(&mut self, text: String) -> Vec<String> {
        let first = !std::mem::replace(&mut self.begun, true);
        match &self.rule {
            Rule::Each(part) => vec![alone(part, text, first)],
            Rule::Unrepeated(part) => {
                if self.held.first() == Some(&text) {
                    return Vec::new();
                }
                self.held = vec![text.clone()];
                chain(part, vec![text]).unwrap_or_default()
            }
            Rule::LastDiffers(part) => {
                let before = std::mem::replace(&mut self.held, vec![text]);
                // With another one after it, the text is not the last.
                before
                    .into_iter()
                    .filter_map(|text| chain(part, vec![text, String::new()])?.into_iter().next())
                    .collect()
            }
            Rule::ByteFallback(part) => {
                if fallback_byte(&text).is_some() {
                    self.held.push(text);
                    return Vec::new();
                }
                let mut texts = self.run(&part.clone());
                texts.push(text);
                texts
            }
            Rule::ByteLevel => {
                self.bytes.extend(byte_level(&text));
                vec![self.take_characters()]
            }
            Rule::Fuse => vec![text],
            Rule::Ends { content, start, stop } => {
                let (content, start, stop) = (*content, *start, *stop);
                vec![self.without_ends(text, content, start, stop)]
            }
            Rule::Whole(_) => {
                self.held.push(text);
                Vec::new()
            }
        }
    }

    fn finish(&mut self) -> Vec<String> {
        match self.rule.clone() {
            Rule::LastDiffers(part) => {
                let last = std::mem::take(&mut self.held);
                if last.is_empty() { last } else { chain(&part, last).unwrap_or_default() }
            }
            Rule::ByteFallback(part) => self.run(&part),
            Rule::ByteLevel => vec![String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned()],
            // What waited is at the end, as much as is to go from there.
            Rule::Ends { stop, .. } => {
                let held = std::mem::take(&mut self.held).concat();
                let kept = held.chars().count().saturating_sub(stop);
                vec![held.chars().take(kept).collect()]
            }
            Rule::Whole(part) => {
                let whole = std::mem::take(&mut self.held).concat();
                chain(&part, vec![whole]).unwrap_or_default()
            }
            Rule::Each(_) | Rule::Unrepeated(_) | Rule::Fuse => Vec::new(),
        }
    }

    /// The texts of a run of bytes, which is over.
    fn run(&mut self, part: &DecoderWrapper) -> Vec<String> {
        let run = std::mem::take(&mut self.held);
        if run.is_empty() { run } else { chain(part, run).unwrap_or_default() }
    }

    fn take_characters(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.bytes.as_slice();
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
        self.bytes = rest.to_vec();
        text
    }

    /// The text without `content` at the start of the whole; at the end of it as many wait as may have to go.
    fn without_ends(&mut self, text: String, content: char, start: usize, stop: usize) -> String {
        let mut text = text.as_str();
        while self.taken < start {
            let Some(rest) = text.strip_prefix(content) else {
                // The first other character ends it for good.
                self.taken = if text.is_empty() { self.taken } else { start };
                break;
            };
            text = rest;
            self.taken += 1;
        }
        if stop == 0 {
            return text.to_owned();
        }
        let mut all = std::mem::take(&mut self.held).concat();
        all.push_str(text);
        let waits = all.chars().rev().take(stop).take_while(|character| *character == content).count();
        let cut = all.len() - waits * content.len_utf8();
        self.held = vec![all.split_off(cut)];
        all
    }
}

/// One token through one step.
fn alone(part: &DecoderWrapper, text: String, first: bool) -> String {
    match part {
        // The library's own step would look before an empty text's beginning.
        DecoderWrapper::Strip(_) if text.is_empty() => text,
        // They write the first text otherwise.
        DecoderWrapper::Metaspace(_) | DecoderWrapper::WordPiece(_) if !first => {
            let texts = chain(part, vec![String::new(), text.clone()]);
            texts.and_then(|texts| texts.into_iter().nth(1)).unwrap_or(text)
        }
        _ => chain(part, vec![text.clone()]).map_or(text, |texts| texts.concat()),
    }
}

/// The step of the library itself. One that fails has nothing to say: the text stays as it is.
fn chain(part: &DecoderWrapper, texts: Vec<String>) -> Option<Vec<String>> {
    // The decoder is only read.
    catch_unwind(AssertUnwindSafe(|| part.decode_chain(texts).ok())).ok().flatten()
}

/// The bytes of a text in GPT-2's alphabet. One with a character outside of it was added as it is.
fn byte_level(text: &str) -> Vec<u8> {
    text.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| text.into())
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
