//! Blocks, and ranges of them in the model's order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::LayerIndex;

/// The unit of residency, of disk reads and of what a device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Block {
    /// The token embedding matrix.
    Embedding,
    /// A layer's input norm and attention projections.
    Attention(LayerIndex),
    /// A layer's second norm and feed-forward projections.
    Mlp(LayerIndex),
    /// The final norm and the output matrix.
    Head,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.pad("embedding"),
            Self::Attention(layer) => f.pad(&format!("attention({})", layer.0)),
            Self::Mlp(layer) => f.pad(&format!("mlp({})", layer.0)),
            Self::Head => f.pad("head"),
        }
    }
}

/// Consecutive blocks in the model's order, `start` included, `end` excluded: 0 is the embedding, 1 the attention of layer 0, 2 its
/// MLP, 3 the attention of layer 1 and so on. A device's ranges are of layers' blocks; embedding and head come with its place in the
/// ring. May be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockRange {
    /// First block.
    pub start: u32,
    /// One past the last block.
    pub end: u32,
}

impl BlockRange {
    /// Blocks `start..end`.
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// The blocks of whole layers, `start` included, `end` excluded.
    pub const fn layers(start: u32, end: u32) -> Self {
        Self { start: start.saturating_mul(2).saturating_add(1), end: end.saturating_mul(2).saturating_add(1) }
    }

    /// How many blocks the range holds.
    pub const fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no block.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Every block of the range, in the model's order.
    pub fn blocks(self) -> impl DoubleEndedIterator<Item = Block> + ExactSizeIterator {
        (self.start..self.end.max(self.start)).map(block_at)
    }

    /// How many attention blocks it holds.
    pub const fn attentions(self) -> u32 {
        if self.is_empty() { 0 } else { self.end / 2 - self.start / 2 }
    }
}

/// The block of layers, or the embedding, that has this number.
pub(crate) const fn block_at(index: u32) -> Block {
    match index {
        0 => Block::Embedding,
        odd if odd % 2 == 1 => Block::Attention(LayerIndex((odd - 1) / 2)),
        even => Block::Mlp(LayerIndex((even - 1) / 2)),
    }
}

impl fmt::Display for BlockRange {
    /// Layers, the last included: `3-7`, `5` for one, `-` for none; `m` says that of the first only the MLP is meant, `a` that of
    /// the last only the attention: `3m-7`, `3-7a`, `5m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("-");
        }
        let (first, last) = (self.start.saturating_sub(1), self.end.saturating_sub(2));
        let (from, to) = (first / 2, last / 2);
        let (mlp_only, attention_only) = (first % 2 == 1, last % 2 == 0);
        let text = match (mlp_only, attention_only) {
            (true, _) if from == to => format!("{from}m"),
            (_, true) if from == to => format!("{to}a"),
            (false, false) if from == to => from.to_string(),
            _ => format!("{from}{}-{to}{}", if mlp_only { "m" } else { "" }, if attention_only { "a" } else { "" }),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_which_layers_they_cut() {
        let shown = |start, end| BlockRange::new(start, end).to_string();
        assert_eq!([shown(1, 1), shown(7, 9), shown(7, 8), shown(8, 9)], ["-", "3", "3a", "3m"]);
        assert_eq!([shown(7, 17), shown(8, 17), shown(7, 16), shown(8, 16)], ["3-7", "3m-7", "3-7a", "3m-7a"]);
        assert_eq!(BlockRange::layers(3, 8), BlockRange::new(7, 17));
    }

    #[test]
    fn what_a_range_counts_is_what_it_lists() {
        for start in 1..9 {
            for end in start..10 {
                let range = BlockRange::new(start, end);
                let attentions = range.blocks().filter(|block| matches!(block, Block::Attention(_))).count();
                assert_eq!((range.blocks().len(), range.attentions()), ((end - start) as usize, attentions as u32));
            }
        }
    }
}
