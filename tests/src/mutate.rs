//! Damage done on purpose, the same in every run: what a test then reads must be an error or harmless.

use std::ops::Range;

/// Numbers at which arithmetic breaks.
const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "2",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "-0.5",
    "null",
    "\"7\"",
];

/// Pieces that mean something to one reader or another.
const PIECES: [&str; 14] = ["{", "}", "[", "]", "\"", ",", ":", "null", "true", "- ", "&a", "*a", "\u{0}", "\u{1F600}"];

/// A source of damage.
#[derive(Clone, Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// One that does what `seed` says.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `below`; 0 where there is none.
    pub fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        if below == 0 { 0 } else { (self.0 >> 11) as usize % below }
    }

    /// `original` with one to four faults.
    pub fn damaged(&mut self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=self.below(4) {
            self.damage(&mut bytes);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(10) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            3 => bytes.insert(at, self.below(256) as u8),
            4 => {
                let to = (at + 1 + self.below(40)).min(bytes.len());
                bytes.drain(at..to);
            }
            5 => {
                let to = (at + 1 + self.below(200)).min(bytes.len());
                let twice = bytes[at..to].to_vec();
                bytes.splice(at..at, twice);
            }
            6 => {
                let piece = PIECES[self.below(PIECES.len())];
                bytes.splice(at..at, piece.bytes());
            }
            // Most of what is wrong in the wild is a number.
            what => self.renumber(bytes, at, what == 7),
        }
    }

    /// Replaces the number after `at`, or with `all` that number wherever it stands, so that what depends on it agrees.
    fn renumber(&mut self, bytes: &mut Vec<u8>, at: usize, all: bool) {
        let Some(range) = number_after(bytes, at) else { return };
        let old = bytes[range.clone()].to_vec();
        let new = NUMBERS[self.below(NUMBERS.len())].as_bytes();
        if !all {
            bytes.splice(range, new.iter().copied());
            return;
        }
        let mut from = 0;
        while let Some(range) = number_after(bytes, from) {
            let same = bytes[range.clone()] == old;
            from = range.start + if same { new.len() } else { range.len() };
            if same {
                bytes.splice(range, new.iter().copied());
            }
        }
    }
}

/// The run of digits that begins at or after `at`.
fn number_after(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let start = at + bytes.get(at..)?.iter().position(u8::is_ascii_digit)?;
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some(start..start + length)
}
