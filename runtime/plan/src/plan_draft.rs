//! What a plan says, before anybody has looked whether it keeps the rules.

use serde::{Deserialize, Serialize};

use crate::{
    arithmetic::Arithmetic, block::Block, card::ModelCard, device_plan::DevicePlan, dtype::Dtype, encoding::Encoding,
    outlook::Outlook, serving_limits::ServingLimits, units::DeviceIndex,
};

/// The version of the plan's form that this crate writes. It reads those before as well: see [`PlanDraft::version`].
pub const PLAN_VERSION: u32 = 2;

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
