//! A device's memory, as a plan divides it.

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

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
