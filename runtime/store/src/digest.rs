//! What a block's bytes hash to.

use std::{fmt, str::FromStr};

use twox_hash::XxHash3_128;

/// A block is hashed in chunks of this size, so that several readers can hash what they read, in any order.
pub const CHUNK_BYTES: usize = lime_model::DIGEST_CHUNK;

/// The digest of a block: XXH3 (128 bits) over the XXH3 digests of its chunks, in order.
///
/// It is there to find flipped bits and torn writes, not forgeries: whoever can write to the store can write digests too. So it
/// may be a hash that keeps up with memory, and checking a block costs little more than reading it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub(crate) u128);

impl Digest {
    /// The digest of one chunk of at most [`CHUNK_BYTES`]; all but a block's last have exactly that many.
    pub fn of_chunk(chunk: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(chunk))
    }

    /// The digest of a block from those of its chunks, in order.
    pub fn of_block(chunks: impl IntoIterator<Item = Self>) -> Self {
        let mut all = XxHash3_128::new();
        for chunk in chunks {
            all.write(&chunk.0.to_le_bytes());
        }
        Self(all.finish_128())
    }

    /// The digest of a block that is in memory whole.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of_block(bytes.chunks(CHUNK_BYTES).map(Self::of_chunk))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = String;

    /// Exactly what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, String> {
        let hexadecimal = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let value = hexadecimal.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        value.map(Self).ok_or_else(|| format!("{text:?} is not a digest of 32 hexadecimal digits"))
    }
}

/// The digest of a block whose bytes come one after the other.
#[derive(Clone)]
pub struct BlockHasher {
    chunk: XxHash3_128,
    filled: usize,
    all: XxHash3_128,
}

impl BlockHasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self { chunk: XxHash3_128::new(), filled: 0, all: XxHash3_128::new() }
    }

    /// The next bytes, as many as there are.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.filled));
            self.chunk.write(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == CHUNK_BYTES {
                self.close_chunk();
            }
        }
    }

    /// The digest of all that was hashed.
    pub fn finish(mut self) -> Digest {
        if self.filled > 0 {
            self.close_chunk();
        }
        Digest(self.all.finish_128())
    }

    fn close_chunk(&mut self) {
        self.all.write(&self.chunk.finish_128().to_le_bytes());
        (self.chunk, self.filled) = (XxHash3_128::new(), 0);
    }
}

impl fmt::Debug for BlockHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockHasher").field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Default for BlockHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// A plain hash of a piece on its way to the disk.
pub(crate) struct PieceHasher(XxHash3_128);

impl PieceHasher {
    pub(crate) fn new() -> Self {
        Self(XxHash3_128::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(crate) fn finish(&self) -> Digest {
        Digest(self.0.finish_128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES * 2 + 4096).map(|index| (index * 31 % 251) as u8).collect();
        for step in [4096, 65_537, CHUNK_BYTES, bytes.len()] {
            let mut hasher = BlockHasher::new();
            bytes.chunks(step).for_each(|part| hasher.update(part));
            assert_eq!(hasher.finish(), Digest::of_bytes(&bytes), "in steps of {step}");
        }
    }

    #[test]
    fn the_digest_of_known_bytes_stays_what_it_is() {
        // Blocks on disks carry these: the function must never change.
        assert_eq!(Digest::of_chunk(b"").to_string(), "99aa06d3014798d86001c324468d497f");
        assert_eq!(Digest::of_bytes(&[7; 8192]), Digest::of_block([Digest::of_chunk(&[7; 8192])]));
    }

    #[test]
    fn only_its_own_text_is_a_digest() {
        let digest = Digest::of_bytes(b"block");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for text in ["", "12", &"F".repeat(32), &"+1".repeat(16), &"0".repeat(33)] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
