//! Which uses of streamed blocks are compared with their digests.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, str::FromStr};

use lime_plan::Block;

const EVERY: &str = "every";

/// How often a streamed block is compared with its digest before it is computed with: at every use, or at one of so many. A use is a
/// pass of a token, or of a prompt's chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyReads(NonZeroU32);

impl VerifyReads {
    /// Every use: whatever the disk gives, no token comes of a bit that has flipped.
    pub const EVERY_USE: Self = Self(NonZeroU32::MIN);

    /// One use in `uses`: a bit that flips is found within so many, and until then answers may be wrong.
    pub const fn one_in(uses: NonZeroU32) -> Self {
        Self(uses)
    }

    pub(super) const fn is_every_use(self) -> bool {
        self.0.get() == 1
    }
}

impl Default for VerifyReads {
    fn default() -> Self {
        Self::EVERY_USE
    }
}

impl fmt::Display for VerifyReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_every_use() { f.write_str(EVERY) } else { self.0.fmt(f) }
    }
}

impl FromStr for VerifyReads {
    type Err = String;

    /// `every`, or a number of uses of which one is compared.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case(EVERY) {
            return Ok(Self::EVERY_USE);
        }
        let uses = text.parse().map(Self);
        uses.map_err(|_| format!("{text:?}: say {EVERY}, or one use in how many is compared, such as 64"))
    }
}

/// When each block is compared next: when it first comes, and now and then from then on, no two together where that can be helped.
#[derive(Debug)]
pub(crate) struct Checks {
    one_in: u32,
    next: BTreeMap<Block, Next>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    /// Uses before the one that is compared.
    left: u32,
    /// The second time comes by so much earlier.
    early: u32,
}

impl Checks {
    /// For `blocks`, of which nothing is known.
    pub(super) fn of(blocks: impl ExactSizeIterator<Item = Block>, VerifyReads(one_in): VerifyReads) -> Self {
        let (count, one_in) = (blocks.len().max(1) as u64, one_in.get());
        let early = |index: usize| u32::try_from(index as u64 * u64::from(one_in) / count).unwrap_or_default();
        let next = blocks.enumerate().map(|(index, block)| (block, Next { left: 0, early: early(index) })).collect();
        Self { one_in, next }
    }

    /// Whether this use of `block` is to be compared; counts it.
    pub(super) fn is_due(&mut self, block: Block) -> bool {
        let next = self.next.entry(block).or_insert(Next { left: 0, early: 0 });
        let due = next.left == 0;
        next.left = next.left.saturating_sub(1);
        due
    }

    /// `block` was compared and is what it should be. One that is not stays due.
    pub(super) fn passed(&mut self, block: Block) {
        let last = self.one_in - 1;
        if let Some(next) = self.next.get_mut(&block) {
            *next = Next { left: last - next.early.min(last), early: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use lime_plan::LayerIndex;

    use super::*;

    fn one_in_64() -> VerifyReads {
        "64".parse().unwrap()
    }

    #[test]
    fn first_and_then_now_and_then_and_not_all_together() {
        let blocks = [0, 1, 2, 3].map(|layer| Block::Mlp(LayerIndex(layer)));
        let mut checks = Checks::of(blocks.into_iter(), one_in_64());
        let mut due = |block: Block| {
            let due = checks.is_due(block);
            if due {
                checks.passed(block);
            }
            due
        };
        let times: Vec<Vec<u32>> = blocks.iter().map(|block| (0..200).filter(|_| due(*block)).collect()).collect();
        assert_eq!(times[0], [0, 64, 128, 192]);
        assert_eq!(times[1], [0, 48, 112, 176]);
        assert_eq!(times[3], [0, 16, 80, 144]);
    }

    #[test]
    fn what_is_wrong_is_due_again_at_once() {
        let block = Block::Head;
        let mut checks = Checks::of([Block::Embedding].into_iter(), one_in_64());
        assert!(checks.is_due(block) && checks.is_due(block));
        checks.passed(block);
        assert!(!checks.is_due(block));
    }

    #[test]
    fn how_often_is_said_in_words_and_numbers() {
        for (text, again) in [("every", "every"), ("EVERY", "every"), ("1", "every"), ("64", "64")] {
            assert_eq!(text.parse::<VerifyReads>().unwrap().to_string(), again);
        }
        for text in ["", "0", "-1", "never", "1.5"] {
            assert!(text.parse::<VerifyReads>().unwrap_err().contains("every"), "{text}");
        }
    }
}
