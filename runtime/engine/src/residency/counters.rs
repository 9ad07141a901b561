//! What a device's memory holds at the moment, to be read while it changes.

use std::sync::{Mutex, PoisonError};

use lime_plan::{Bytes, Nanos};

/// Kept up to date by the engine, for status and metrics: written once a pass at most, so that a lock costs nothing.
#[derive(Debug, Default)]
pub struct ResidencyCounters(Mutex<ResidencyFigures>);

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidencyFigures {
    /// Weights that are kept.
    pub pinned: Bytes,
    /// The buffer for those that stream.
    pub prefetch: Bytes,
    /// KV cache in use.
    pub kv: Bytes,
    /// KV cache that fits without a further change.
    pub kv_room: Bytes,
    /// Steps in force.
    pub level: u64,
    /// Steps that the plan has for this device.
    pub steps: u64,
    /// Steps taken since the plan was taken up.
    pub taken: u64,
    /// Steps undone.
    pub undone: u64,
    /// Passes refused because their KV pages would not have fitted.
    pub refused: u64,
    /// Bytes of the budget that others need.
    pub shortage: Bytes,
    /// KV cache that another device keeps.
    pub remote: Bytes,
    /// What it keeps at most.
    pub remote_room: Bytes,
    /// KV pages handed over since the plan was taken up.
    pub handed_over: u64,
    /// Of them, those that were brought back.
    pub brought_back: u64,
    /// By how much remote pages make a pass longer, or would: as measured last, or as planned.
    pub remote_costs: Nanos,
    /// How long passes waited for the device that keeps pages.
    pub remote_waited: Nanos,
    /// KV entries that were beyond their type's range, and are kept as its greatest number, since the plan was taken up.
    pub saturated: u64,
}

impl ResidencyCounters {
    /// The figures now.
    pub fn figures(&self) -> ResidencyFigures {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, figures: ResidencyFigures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}
