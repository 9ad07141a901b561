//! How a device makes room while it serves: blocks that it stops keeping, one after the other, as its KV cache grows or its
//! memory shrinks. The plan names them; a [`Ladder`] is the plan's list as a worker follows it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Block, Bytes, DevicePlan, MemoryModel, Nanos, PlacedBlock, Plan, PlanError, Residency};

/// How room is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Relief {
    /// Read this block from disk in every pass instead of keeping it.
    Stream(Block),
    /// Keep this many bytes of KV pages on another device, which computes their part of attention. Workers of this version
    /// do not follow it.
    HandOver {
        /// The device with room.
        to: String,
        /// Bytes of its memory that are free in the plan.
        room: Bytes,
    },
}

/// One step, to be taken when the KV cache grows above `above` and undone when it shrinks below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Bytes of KV cache that fit before this step.
    pub above: Bytes,
    /// What to do.
    pub relief: Relief,
    /// Bytes that it frees, what a larger buffer takes subtracted.
    pub frees: Bytes,
    /// Time of a pass from then on, if only this device takes steps.
    pub time_per_token: Nanos,
}

/// A step that streams a block, as a worker follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The block that is no longer kept.
    pub block: Block,
    /// Its size.
    pub bytes: Bytes,
    /// Bytes of KV cache that fit before this step.
    pub above: Bytes,
    /// The buffer for streamed blocks from then on.
    pub buffer: Bytes,
    /// By how much the buffer grows.
    pub grows: Bytes,
    /// What a pass takes from then on, if only this device takes steps.
    pub time_per_token: Nanos,
}

/// The steps of one device that a worker can follow, in the order in which they are taken. A device at *level* n has taken the
/// first n of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<Rung>,
    base: Bytes,
    most: Bytes,
}

impl Ladder {
    /// The ladder of one of a plan's devices. Steps that hand pages over are left out.
    ///
    /// # Errors
    /// A step for a block that the device does not keep, or at another size of the KV cache than the device's memory makes it.
    pub fn of(plan: &Plan, device: &DevicePlan) -> Result<Self, PlanError> {
        let fault = |what: String| PlanError::Step { device: device.name.clone(), what };
        let memory = device.memory;
        let base = memory.kv + memory.budget.saturating_sub(memory.used());
        let (mut above, mut buffer) = (base, memory.prefetch);
        let (mut rungs, mut taken) = (Vec::with_capacity(device.steps.len()), BTreeSet::new());
        for step in &device.steps {
            let Relief::Stream(block) = step.relief else { continue };
            let pinned = PlacedBlock { block, residency: Residency::Pinned };
            let movable = matches!(block, Block::Attention(_) | Block::Mlp(_));
            if !movable || !device.blocks.contains(&pinned) || !taken.insert(block) {
                return Err(fault(format!("streams {block}, which it does not keep until then")));
            }
            if step.above != above {
                return Err(fault(format!("streams {block} above {} of KV cache, not above {above}", step.above)));
            }
            let bytes = plan.model.block_bytes(block);
            let grown = buffer.max(bytes);
            let grows = grown.saturating_sub(buffer);
            rungs.push(Rung { block, bytes, above, buffer: grown, grows, time_per_token: step.time_per_token });
            above += bytes.saturating_sub(grows);
            buffer = grown;
        }
        Ok(Self { rungs, base, most: above })
    }

    /// Checks that a device with steps can hold the longest KV cache that the plan allows.
    pub(crate) fn check(plan: &Plan, device: &DevicePlan) -> Result<(), PlanError> {
        if device.steps.is_empty() {
            return Ok(());
        }
        let ladder = Self::of(plan, device)?;
        let needed = MemoryModel::of(plan).kv(device.all_layers().count() as u32);
        if ladder.most() < needed {
            return Err(PlanError::KvShort { device: device.name.clone(), needed, room: ladder.most() });
        }
        Ok(())
    }

    /// The steps.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Bytes of KV cache that fit at `level`.
    pub fn room(&self, level: usize) -> Bytes {
        self.rungs.get(level).map_or(self.most, |rung| rung.above)
    }

    /// Bytes of KV cache that fit when every step is taken.
    pub const fn most(&self) -> Bytes {
        self.most
    }

    /// Bytes of KV cache that fit before any step.
    pub const fn base(&self) -> Bytes {
        self.base
    }

    /// The level for a device at level `now` that needs room for `needed`: as high as it must be, at once; down by one step
    /// where that leaves `slack` free, and what the step back holds twice for a moment.
    pub fn level(&self, needed: Bytes, now: usize, slack: Bytes) -> usize {
        let least = (0..self.rungs.len()).find(|&level| needed <= self.room(level)).unwrap_or(self.rungs.len());
        if least >= now {
            return least;
        }
        let below = now.min(self.rungs.len()) - 1;
        let spare = slack.max(self.rungs[below].grows);
        if needed + spare <= self.room(below) { below } else { now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers grow with the first block and with a larger one; `sizes` of blocks.
    fn ladder(base: u64, buffer: u64, sizes: &[u64]) -> Ladder {
        let (mut above, mut buffer) = (Bytes(base), Bytes(buffer));
        let mut rungs = Vec::new();
        for (index, &bytes) in sizes.iter().enumerate() {
            let (bytes, grown) = (Bytes(bytes), buffer.max(Bytes(bytes)));
            let grows = grown.saturating_sub(buffer);
            let block = Block::Mlp(crate::LayerIndex(index as u32));
            rungs.push(Rung { block, bytes, above, buffer: grown, grows, time_per_token: Nanos::ZERO });
            above += bytes.saturating_sub(grows);
            buffer = grown;
        }
        Ladder { rungs, base: Bytes(base), most: above }
    }

    #[test]
    fn a_first_block_that_only_pays_for_its_buffer_takes_the_next_one_along() {
        let ladder = ladder(100, 0, &[30, 30, 30]);
        assert_eq!([0, 1, 2, 3].map(|level| ladder.room(level).0), [100, 100, 130, 160]);
        let level = |needed| ladder.level(Bytes(needed), 0, Bytes::ZERO);
        assert_eq!([0, 100, 101, 130, 131, 160, 900].map(level), [0, 0, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn the_way_back_is_one_step_at_a_time_and_waits_for_room() {
        let ladder = ladder(100, 0, &[30, 30, 30]);
        let level = |needed, now| ladder.level(Bytes(needed), now, Bytes(10));
        assert_eq!(level(0, 3), 2);
        assert_eq!([119, 120, 121, 131].map(|needed| level(needed, 3)), [2, 2, 3, 3]);
        // The last step back holds block and buffer at once.
        assert_eq!([70, 71, 100].map(|needed| level(needed, 1)), [0, 1, 1]);
    }
}
