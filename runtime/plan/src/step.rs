//! How a device makes room while it serves: one step of those that a plan names.

use serde::{Deserialize, Serialize};

use crate::{block::Block, outlook::Nanos, units::Bytes};

/// How room is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Relief {
    /// Read this block from disk in every pass instead of keeping it.
    Stream(Block),
    /// Keep this many bytes of KV pages on another device, which computes their part of attention. At most one of a device's
    /// steps does so.
    HandOver {
        /// The device with room: its `memory.lent` counts it.
        to: String,
        /// What it keeps at most.
        room: Bytes,
        /// By how much that makes a pass longer, over the link as it was when the plan was made.
        #[serde(default)]
        costs: Nanos,
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
