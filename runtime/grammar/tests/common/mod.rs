//! A small vocabulary with tokens of every kind, and answers drawn from grammars without a model: any token that may come is as likely.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; not every one uses all of it")]

use lime_grammar::{Form, Grammar, Grammars, Matcher, TokenText};

/// What ends an answer.
pub const END: u32 = 256 + MERGED.len() as u32;
/// Another token that does.
pub const OTHER_END: u32 = END + 1;
/// What ends thoughts.
pub const THOUGHT: &str = "</think>";

/// Tokens of more than one byte.
const MERGED: [&str; 40] = [
    "{\"", "\":", "\": ", "\",", "\", \"", "\"}", "}}", "[]", "[1", "1,", "true", "false", "null", "name", "age", "na",
    "me", "  ", "\n", "\n  ", "12", "123", "0.", "e+", "-1", "abc", "yes", "no", "\\\"", "\\n", "\\u", "00", "é",
    "日本", "日", "x\"y", "a,", "]]", "<think>", THOUGHT,
];

/// Every byte, some that are merged, and marks.
pub fn grammars() -> Grammars {
    let bytes = (0..=255u8).map(|byte| TokenText::Text(vec![byte]));
    let merged = MERGED.map(|text| TokenText::Text(text.into()));
    let marks = ["<|end|>", "<|eot|>", "<|tool|>"].map(|name| TokenText::Mark(name.into()));
    let tokens = bytes.chain(merged).chain(marks).chain([TokenText::Nothing]);
    Grammars::new(tokens.collect(), &[END, OTHER_END]).unwrap()
}

pub fn compiled(grammars: &Grammars, form: &Form) -> Grammar {
    grammars.compile(form).unwrap_or_else(|fault| panic!("{form:?}: {fault}"))
}

/// The bytes of a token.
pub fn bytes(token: u32) -> Vec<u8> {
    match token as usize {
        token @ 0..256 => vec![token as u8],
        token if token < END as usize => MERGED[token - 256].into(),
        _ => Vec::new(),
    }
}

/// How an answer came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    Ended,
    Cut,
}

/// Draws an answer of at most `most` tokens.
pub fn drawn(mut matcher: Matcher, random: &mut fastrand::Rng, most: usize) -> (Vec<u32>, End) {
    let mut tokens = Vec::new();
    while tokens.len() < most {
        let allowed: Vec<u32> = matcher.allowed().iter().collect();
        let token = allowed[random.usize(..allowed.len())];
        if token == END || token == OTHER_END {
            return (tokens, End::Ended);
        }
        tokens.push(token);
        matcher.advance(token).unwrap();
        if matcher.is_over() {
            return (tokens, End::Whole);
        }
    }
    (tokens, End::Cut)
}

pub fn text(tokens: &[u32]) -> String {
    String::from_utf8(tokens.iter().flat_map(|token| bytes(*token)).collect()).unwrap()
}
