//! The Plan: who holds what, typed and versioned. Workers and gateway follow it to the letter.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::{
    Block, BlockRange, Bytes, DeviceIndex, Dtype, Encoding, ModelCard, Outlook, PlanError, PlanReadError, SegmentIndex,
    Step, plan_rules, plan_written::WrittenDevice,
};

/// The version of the plan's form that this crate writes. It reads those before as well: see [`PlanDraft::version`].
pub const PLAN_VERSION: u32 = 2;

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

/// What a plan says, be it so or not: what planners fill in, and what a file holds before anybody has looked at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDraft {
    /// [`PLAN_VERSION`] of the writer. 1 named whole layers: who reads it has the same plan in today's form.
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

impl PlanDraft {
    /// Groups into which the sequences of a pass are split: 1 where the plan does not say.
    pub fn micro_batches(&self) -> u32 {
        self.outlook.as_ref().map_or(1, |outlook| outlook.micro_batches.max(1))
    }

    /// The longest sequence that it has room for and the model is exact for.
    pub fn longest_context(&self) -> u32 {
        self.serving.max_context_tokens.min(self.model.context)
    }

    /// Looks a device up by name.
    pub fn device(&self, name: &str) -> Option<(DeviceIndex, &DevicePlan)> {
        let found = self.devices.iter().enumerate().find(|(_, device)| device.name == name)?;
        Some((DeviceIndex(found.0 as u32), found.1))
    }

    /// Whether some layer's attention and MLP are on two devices, or in two visits of one.
    pub fn cuts_layers(&self) -> bool {
        self.devices.iter().flat_map(|device| &device.ranges).any(|range| range.len() % 2 == 1)
    }

    /// Whether `device` takes its blocks from a weight store, even where the model's own folder is beside it: such as are read
    /// while it serves lie there as they are read, and only there is anything compact.
    pub fn needs_store(&self, device: &DevicePlan) -> bool {
        self.model.encoding == Encoding::Compact || device.may_stream()
    }

    /// The blocks that device `index` must hold, in the order in which a pass meets them.
    pub fn expected_blocks(&self, index: DeviceIndex) -> Vec<Block> {
        let mut blocks = Vec::new();
        if index.0 == 0 {
            blocks.push(Block::Embedding);
        }
        if let Some(device) = self.devices.get(index.0 as usize) {
            blocks.extend(device.all_blocks());
        }
        if index == self.head {
            blocks.push(Block::Head);
        }
        blocks
    }
}

/// Who holds what, and how the ring runs: a draft that keeps every rule that workers rely on. There is no other way to one, so
/// nobody who has one checks it. The same inputs give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PlanDraft")]
pub struct Plan(PlanDraft);

impl Plan {
    /// Reads a plan's JSON.
    ///
    /// # Errors
    /// On what is no plan's JSON, and on a plan that breaks a rule.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PlanReadError> {
        Ok(Self::try_from(serde_json::from_slice::<PlanDraft>(bytes)?)?)
    }

    /// The same with something else about it.
    ///
    /// # Errors
    /// The first rule that this would break.
    pub fn changed(&self, change: impl FnOnce(&mut PlanDraft)) -> Result<Self, PlanError> {
        let mut draft = self.0.clone();
        change(&mut draft);
        Self::try_from(draft)
    }

    /// What it says, to be changed.
    pub fn into_draft(self) -> PlanDraft {
        self.0
    }
}

impl TryFrom<PlanDraft> for Plan {
    type Error = PlanError;

    fn try_from(mut draft: PlanDraft) -> Result<Self, PlanError> {
        if draft.version == 1 {
            draft.version = PLAN_VERSION;
        }
        plan_rules::check(&draft)?;
        Ok(Self(draft))
    }
}

impl Deref for Plan {
    type Target = PlanDraft;

    fn deref(&self) -> &PlanDraft {
        &self.0
    }
}
