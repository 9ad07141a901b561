//! The Plan: who holds what, typed and versioned. Workers and gateway follow it to the letter.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Block, Bytes, CardError, DeviceIndex, Dtype, Ladder, LayerIndex, LayerRange, ModelCard, Outlook, SegmentIndex,
    Step, Unbelievable, plausible,
};

/// The version of the plan's form that this crate writes and reads.
pub const PLAN_VERSION: u32 = 1;

/// How sums are formed. A ring never mixes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Arithmetic {
    /// The canonical order of `lime-kernels`: the same bits on every CPU.
    #[default]
    Exact,
    /// candle's own operations on the worker's candle device: the way to GPUs, identical on like devices only.
    Candle,
}

/// Where a block's bytes are while the ring serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Residency {
    /// In memory from start to end.
    Pinned,
    /// Read from the device's disk in every pass.
    Streamed,
}

/// A block on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlacedBlock {
    /// Which block.
    pub block: Block,
    /// Whether it stays in memory.
    pub residency: Residency,
}

/// What the deployment may be asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServingLimits {
    /// Longest sequence in tokens, prompt and answer together.
    pub max_context_tokens: u32,
    /// Sequences in flight at once: the number of KV slots.
    pub max_concurrent_requests: u32,
    /// Rows of one prefill chunk; bounds the activations.
    pub prefill_chunk_tokens: u32,
}

impl ServingLimits {
    /// Most rows that one pass may carry: every other slot's decode row and one prefill chunk.
    pub const fn max_rows(&self) -> u32 {
        self.prefill_chunk_tokens + self.max_concurrent_requests
    }
}

/// A device's memory, to the byte. The sum stays at or under `budget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceMemory {
    /// Weights that stay.
    pub pinned: Bytes,
    /// Buffers through which streamed blocks pass.
    pub prefetch: Bytes,
    /// KV cache of this device's layers; where the device has steps, what is kept for it before any is taken.
    pub kv: Bytes,
    /// Activations and scratch of the largest pass.
    pub activations: Bytes,
    /// What the process needs besides.
    pub overhead: Bytes,
    /// Kept free for KV pages of other devices, the buffers for their questions included: see [`crate::Relief::HandOver`].
    #[serde(default, skip_serializing_if = "Bytes::is_zero")]
    pub lent: Bytes,
    /// What the device may use.
    pub budget: Bytes,
}

impl DeviceMemory {
    /// Everything but the budget, added up.
    pub fn used(&self) -> Bytes {
        self.pinned + self.prefetch + self.kv + self.activations + self.overhead + self.lent
    }
}

/// One device of the ring and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevicePlan {
    /// The node's or device's name, unique in the plan.
    pub name: String,
    /// One range per segment, possibly empty.
    pub layers: Vec<LayerRange>,
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
    /// Layers held over all segments, in the order in which a pass meets them.
    pub fn all_layers(&self) -> impl Iterator<Item = LayerIndex> {
        self.layers.iter().flat_map(|range| range.layers())
    }

    /// The layers of one segment; empty where the plan names none.
    pub fn layers_in(&self, segment: SegmentIndex) -> LayerRange {
        self.layers.get(segment.0 as usize).copied().unwrap_or_default()
    }

    /// Whether the device holds `block`.
    pub fn holds(&self, block: Block) -> bool {
        self.blocks.iter().any(|placed| placed.block == block)
    }
}

/// Who holds what, and how the ring runs. The same inputs give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`PLAN_VERSION`] of the writer.
    pub version: u32,
    /// SHA-256 over the inputs, in hexadecimal.
    pub input_hash: String,
    /// The model.
    pub model: ModelCard,
    /// How sums are formed.
    pub arithmetic: Arithmetic,
    /// The residual stream's dtype: it is rounded to this at every block boundary, and the wire carries it.
    pub residual: Dtype,
    /// The dtype of KV entries.
    pub kv: Dtype,
    /// What may be asked at once.
    pub serving: ServingLimits,
    /// How many times an activation goes round for a token.
    pub segments: u32,
    /// The devices in ring order. The embedding is on the first.
    pub devices: Vec<DevicePlan>,
    /// The device that holds the head.
    pub head: DeviceIndex,
    /// What the planner expects of this plan; `None` in plans by hand. Workers do not need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
}

/// A plan that breaks a rule.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Written by another version.
    #[error("the plan has version {found}, this build reads version {PLAN_VERSION}: plan again with this build")]
    Version {
        /// What the plan says.
        found: u32,
    },
    /// No devices, no segments or no layers.
    #[error("the plan has no {0}")]
    Empty(&'static str),
    /// A number beyond belief.
    #[error("the plan has {0}")]
    Unbelievable(#[from] Unbelievable),
    /// A card that no model has.
    #[error(transparent)]
    Card(#[from] CardError),
    /// Two devices of one name.
    #[error("two devices of the plan are named {0:?}")]
    DuplicateDevice(String),
    /// A device does not name one range per segment.
    #[error("device {device:?} names {found} layer ranges, the plan has {segments} segments")]
    Ranges {
        /// The device.
        device: String,
        /// Ranges that it names.
        found: usize,
        /// Segments of the plan.
        segments: u32,
    },
    /// The layers, met in ring order, are not 0, 1, 2, ...
    #[error("in segment {segment}, device {device:?}: expected layer {expected} next, found {found}")]
    Order {
        /// The segment.
        segment: u32,
        /// The device.
        device: String,
        /// The layer that should come next.
        expected: u32,
        /// The range's first layer.
        found: u32,
    },
    /// Layers are missing at the end.
    #[error("the plan covers layers 0 to {covered} of a model of {layers} layers")]
    Uncovered {
        /// One past the last layer covered.
        covered: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// The head's device is not in the plan.
    #[error("the head is on device {head}, the plan has {devices} devices")]
    Head {
        /// The index given.
        head: u32,
        /// Number of devices.
        devices: usize,
    },
    /// A device's list of blocks is not what its layers and roles ask for.
    #[error("device {device:?} must hold {block} exactly once and in order, or not at all")]
    Blocks {
        /// The device.
        device: String,
        /// The first block that is wrong.
        block: String,
    },
    /// A device over its budget.
    #[error("device {device:?} needs {} of a budget of {}", .used.apart(*.budget).0, .used.apart(*.budget).1)]
    OverBudget {
        /// The device.
        device: String,
        /// What it needs.
        used: Bytes,
        /// What it may use.
        budget: Bytes,
    },
    /// A step that the device cannot take.
    #[error("a step of device {device:?} {what}: plan again with this build")]
    Step {
        /// The device.
        device: String,
        /// What is wrong with it.
        what: String,
    },
    /// Steps that do not free enough.
    #[error(
        "device {device:?} can free room for {room} of KV cache, the longest requests take {needed}: plan again with a shorter context or fewer requests at once"
    )]
    KvShort {
        /// The device.
        device: String,
        /// KV cache of every request at its longest.
        needed: Bytes,
        /// What fits when every step is taken.
        room: Bytes,
    },
}

impl Plan {
    /// Groups into which the sequences of a pass are split: 1 where the plan does not say.
    pub fn micro_batches(&self) -> u32 {
        self.outlook.as_ref().map_or(1, |outlook| outlook.micro_batches.max(1))
    }

    /// Looks a device up by name.
    pub fn device(&self, name: &str) -> Option<(DeviceIndex, &DevicePlan)> {
        let found = self.devices.iter().enumerate().find(|(_, device)| device.name == name)?;
        Some((DeviceIndex(found.0 as u32), found.1))
    }

    /// The blocks that device `index` must hold, in the order in which a pass meets them.
    pub fn expected_blocks(&self, index: DeviceIndex) -> Vec<Block> {
        let mut blocks = Vec::new();
        if index.0 == 0 {
            blocks.push(Block::Embedding);
        }
        if let Some(device) = self.devices.get(index.0 as usize) {
            blocks.extend(device.all_layers().flat_map(|layer| [Block::Attention(layer), Block::Mlp(layer)]));
        }
        if index == self.head {
            blocks.push(Block::Head);
        }
        blocks
    }

    /// Checks every rule that workers rely on; a plan from elsewhere must pass before it is followed.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), PlanError> {
        if self.version != PLAN_VERSION {
            return Err(PlanError::Version { found: self.version });
        }
        let counts = [
            ("devices", self.devices.len() as u64),
            ("segments", u64::from(self.segments)),
            ("layers", u64::from(self.model.layers)),
            ("context", u64::from(self.serving.max_context_tokens)),
            ("request slots", u64::from(self.serving.max_concurrent_requests)),
            ("prefill rows", u64::from(self.serving.prefill_chunk_tokens)),
        ];
        if let Some((what, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(PlanError::Empty(what));
        }
        plausible::check(self)?;
        self.validate_names()?;
        self.validate_layers()?;
        if self.head.0 as usize >= self.devices.len() {
            return Err(PlanError::Head { head: self.head.0, devices: self.devices.len() });
        }
        self.validate_blocks()
    }

    fn validate_names(&self) -> Result<(), PlanError> {
        let mut names = BTreeSet::new();
        match self.devices.iter().find(|device| !names.insert(device.name.as_str())) {
            Some(twice) => Err(PlanError::DuplicateDevice(twice.name.clone())),
            None => Ok(()),
        }
    }

    fn validate_layers(&self) -> Result<(), PlanError> {
        for device in &self.devices {
            if device.layers.len() != self.segments as usize {
                let (device, found) = (device.name.clone(), device.layers.len());
                return Err(PlanError::Ranges { device, found, segments: self.segments });
            }
        }
        let mut next = 0;
        for segment in 0..self.segments {
            for device in &self.devices {
                let range = device.layers_in(SegmentIndex(segment));
                if range.is_empty() {
                    continue;
                }
                if range.start.0 != next {
                    let (device, found) = (device.name.clone(), range.start.0);
                    return Err(PlanError::Order { segment, device, expected: next, found });
                }
                next = range.end.0;
            }
        }
        if next != self.model.layers {
            return Err(PlanError::Uncovered { covered: next, layers: self.model.layers });
        }
        Ok(())
    }

    fn validate_blocks(&self) -> Result<(), PlanError> {
        for (index, device) in self.devices.iter().enumerate() {
            let expected = self.expected_blocks(DeviceIndex(index as u32));
            let found = device.blocks.iter().map(|placed| placed.block);
            if !found.clone().eq(expected.iter().copied()) {
                let wrong = expected.iter().copied().zip(found.clone()).find(|(want, got)| want != got);
                let block = wrong.map(|(want, _)| want).or(expected.last().copied()).unwrap_or(Block::Head);
                return Err(PlanError::Blocks { device: device.name.clone(), block: block.to_string() });
            }
            let used = device.memory.used();
            if used > device.memory.budget {
                let (device, budget) = (device.name.clone(), device.memory.budget);
                return Err(PlanError::OverBudget { device, used, budget });
            }
            Ladder::check(self, device)?;
        }
        Ok(())
    }
}
