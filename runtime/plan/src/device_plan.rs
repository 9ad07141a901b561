//! One device of a plan. It is written by ranges of blocks today, and was by ranges of layers in version 1.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    block::{Block, BlockRange},
    device_memory::DeviceMemory,
    placement::{PlacedBlock, Residency},
    step::Step,
    units::{Bytes, SegmentIndex},
};

/// One device of the ring and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "WrittenDevice")]
pub struct DevicePlan {
    /// The node's or device's name, unique in the plan.
    pub name: String,
    /// What it computes in each segment, possibly nothing. A layer's attention and MLP may be on two devices.
    pub ranges: Vec<BlockRange>,
    /// Every block held, in the order in which a pass meets them.
    pub blocks: Vec<PlacedBlock>,
    /// The memory that this takes.
    pub memory: DeviceMemory,
    /// How the device makes room when its KV cache outgrows `memory.kv` or its memory shrinks, in the order in which the
    /// steps are taken. Without any, `memory.kv` holds every request at its longest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl DevicePlan {
    /// The most memory that the device takes: with steps it uses its budget up before it takes the first.
    pub fn takes(&self) -> Bytes {
        if self.steps.is_empty() { self.memory.used() } else { self.memory.budget }
    }

    /// The attention and MLP blocks of all segments, in the order in which a pass meets them.
    pub fn all_blocks(&self) -> impl Iterator<Item = Block> {
        self.ranges.iter().flat_map(|range| range.blocks())
    }

    /// What it computes in one segment; nothing where the plan names none.
    pub fn range_in(&self, segment: SegmentIndex) -> BlockRange {
        self.ranges.get(segment.0 as usize).copied().unwrap_or_default()
    }

    /// How many attention blocks it has: of so many layers it keeps the KV cache.
    pub fn attentions(&self) -> u32 {
        self.ranges.iter().map(|range| range.attentions()).sum()
    }

    /// Whether it reads blocks while it serves: always, or when it has to make room.
    pub fn may_stream(&self) -> bool {
        !self.steps.is_empty() || self.blocks.iter().any(|placed| placed.residency == Residency::Streamed)
    }

    /// Whether the device holds `block`.
    pub fn holds(&self, block: Block) -> bool {
        self.blocks.iter().any(|placed| placed.block == block)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenDevice {
    name: String,
    ranges: Option<Vec<BlockRange>>,
    layers: Option<Vec<WrittenLayers>>,
    blocks: Vec<PlacedBlock>,
    memory: DeviceMemory,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct WrittenLayers {
    start: u32,
    end: u32,
}

/// Neither form, or both.
#[derive(Debug, Error)]
#[error("device {0:?} must name its `ranges`, or else its `layers` as plans of version 1 do")]
struct Neither(String);

impl TryFrom<WrittenDevice> for DevicePlan {
    type Error = Neither;

    fn try_from(written: WrittenDevice) -> Result<Self, Neither> {
        let WrittenDevice { name, ranges, layers, blocks, memory, steps } = written;
        let ranges = match (ranges, layers) {
            (Some(ranges), None) => ranges,
            (None, Some(layers)) => layers.iter().map(|it| BlockRange::layers(it.start, it.end)).collect(),
            _ => return Err(Neither(name)),
        };
        Ok(Self { name, ranges, blocks, memory, steps })
    }
}

#[cfg(test)]
mod tests {
    use crate::{plan::Plan, plan_draft::PLAN_VERSION, plan_error::PlanReadError, testing};

    #[test]
    fn a_plan_of_version_1_is_the_same_plan() {
        let plan = testing::small_plan();
        let mut written = serde_json::to_value(&plan).unwrap();
        written["version"] = 1.into();
        for device in written["devices"].as_array_mut().unwrap() {
            let ranges = device.as_object_mut().unwrap().remove("ranges").unwrap();
            let layer = |block: &serde_json::Value| (block.as_u64().unwrap() - 1) / 2;
            let layers = ranges.as_array().unwrap().iter();
            let layers = layers.map(|it| serde_json::json!({ "start": layer(&it["start"]), "end": layer(&it["end"]) }));
            device["layers"] = layers.collect();
        }
        let read = Plan::from_json(written.to_string().as_bytes()).unwrap();
        assert_eq!((read.version, &read), (PLAN_VERSION, &plan));

        written["devices"][0].as_object_mut().unwrap().remove("layers");
        let refused = Plan::from_json(written.to_string().as_bytes()).unwrap_err();
        assert!(matches!(refused, PlanReadError::Malformed(_)) && refused.to_string().contains("ranges"), "{refused}");
    }
}
