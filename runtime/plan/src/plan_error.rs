//! What is wrong with a plan.

use thiserror::Error;

use crate::block::block_at;
use crate::{
    belief::{CardError, Unbelievable},
    block::{Block, BlockRange},
    plan_draft::PLAN_VERSION,
    units::Bytes,
};

/// A plan that breaks a rule.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Written by another version.
    #[error("the plan has version {found}, this build reads versions 1 to {PLAN_VERSION}: plan again with this build")]
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
    #[error("device {device:?} names {found} ranges, the plan has {segments} segments")]
    Ranges {
        /// The device.
        device: String,
        /// Ranges that it names.
        found: usize,
        /// Segments of the plan.
        segments: u32,
    },
    /// The blocks, met in ring order, are not those of the model in its order.
    #[error("in segment {segment}, device {device:?}: expected {} next, found blocks {} to {} of the model", block_at(*.expected), .found.start, .found.end.saturating_sub(1))]
    Order {
        /// The segment.
        segment: u32,
        /// The device.
        device: String,
        /// The number of the block that should come next.
        expected: u32,
        /// What comes.
        found: BlockRange,
    },
    /// Blocks are missing at the end.
    #[error("the plan ends before {missing} of a model of {layers} layers")]
    Uncovered {
        /// The first block that nobody has.
        missing: Block,
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
    /// A device's list of blocks is not what its ranges and roles ask for.
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

/// Bytes that are no plan.
#[derive(Debug, Error)]
pub enum PlanReadError {
    /// Not the JSON of a plan.
    #[error("it is not a plan: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A plan that breaks a rule.
    #[error(transparent)]
    Plan(#[from] PlanError),
}
