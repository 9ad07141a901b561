//! Which passages of streamed blocks are compared with their digests.

use std::collections::BTreeMap;

use lime_planner::Block;

/// A block is compared at every so many uses. Digests were measured at 5 GB/s, so that beside a disk of 2 GB/s this is 0.6 % of the time
/// that reading takes, where it is not hidden by waiting for the disk; and a bit that flips while a ring serves is found within so
/// many uses.
pub(super) const EVERY: u32 = 64;

/// When each block is compared next: when it first comes, and now and then from then on, no two together where that can be helped.
#[derive(Debug, Default)]
pub(crate) struct Checks(BTreeMap<Block, Next>);

#[derive(Clone, Copy, Debug)]
struct Next {
    /// Uses before the one that is compared.
    left: u32,
    /// The second time comes by so much earlier.
    early: u32,
}

impl Checks {
    /// For `blocks`, of which nothing is known.
    pub(super) fn of(blocks: impl ExactSizeIterator<Item = Block>) -> Self {
        let count = blocks.len().max(1) as u64;
        let early = |index: usize| u32::try_from(index as u64 * u64::from(EVERY) / count).unwrap_or_default();
        Self(blocks.enumerate().map(|(index, block)| (block, Next { left: 0, early: early(index) })).collect())
    }

    /// Whether this use of `block` is to be compared; counts it.
    pub(super) fn is_due(&mut self, block: Block) -> bool {
        let next = self.0.entry(block).or_insert(Next { left: 0, early: 0 });
        let due = next.left == 0;
        next.left = next.left.saturating_sub(1);
        due
    }

    /// `block` was compared and is what it should be. One that is not stays due.
    pub(super) fn passed(&mut self, block: Block) {
        if let Some(next) = self.0.get_mut(&block) {
            *next = Next { left: EVERY - 1 - next.early.min(EVERY - 1), early: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use lime_planner::LayerIndex;

    use super::*;

    #[test]
    fn first_and_then_now_and_then_and_not_all_together() {
        let blocks = [0, 1, 2, 3].map(|layer| Block::Mlp(LayerIndex(layer)));
        let mut checks = Checks::of(blocks.into_iter());
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
        let mut checks = Checks::of([Block::Embedding].into_iter());
        assert!(checks.is_due(block) && checks.is_due(block));
        checks.passed(block);
        assert!(!checks.is_due(block));
    }
}
