//! A block on a device.

use serde::{Deserialize, Serialize};

use crate::block::Block;

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
