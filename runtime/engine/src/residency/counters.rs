//! What a device's memory holds at the moment, to be read while it changes.

use std::sync::atomic::{AtomicU64, Ordering};

use lime_plan::{Bytes, Nanos};

/// Kept up to date by the engine, for status and metrics.
#[derive(Debug, Default)]
pub struct ResidencyCounters {
    pinned: AtomicU64,
    prefetch: AtomicU64,
    kv: AtomicU64,
    kv_room: AtomicU64,
    level: AtomicU64,
    steps: AtomicU64,
    taken: AtomicU64,
    undone: AtomicU64,
    refused: AtomicU64,
    shortage: AtomicU64,
    elsewhere: AtomicU64,
    elsewhere_room: AtomicU64,
    handed_over: AtomicU64,
    brought_back: AtomicU64,
    elsewhere_nanos: AtomicU64,
    waited_nanos: AtomicU64,
    saturated: AtomicU64,
}

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
    pub elsewhere: Bytes,
    /// What it keeps at most.
    pub elsewhere_room: Bytes,
    /// KV pages handed over since the plan was taken up.
    pub handed_over: u64,
    /// Of them, those that were brought back.
    pub brought_back: u64,
    /// By how much pages elsewhere make a pass longer, or would: as measured last, or as planned.
    pub elsewhere_costs: Nanos,
    /// How long passes waited for the device that keeps pages.
    pub elsewhere_waited: Nanos,
    /// KV entries that were beyond their type's range, and are kept as its greatest number, since the plan was taken up.
    pub saturated: u64,
}

impl ResidencyCounters {
    /// The figures now.
    pub fn figures(&self) -> ResidencyFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bytes = |counter| Bytes(count(counter));
        ResidencyFigures {
            pinned: bytes(&self.pinned),
            prefetch: bytes(&self.prefetch),
            kv: bytes(&self.kv),
            kv_room: bytes(&self.kv_room),
            level: count(&self.level),
            steps: count(&self.steps),
            taken: count(&self.taken),
            undone: count(&self.undone),
            refused: count(&self.refused),
            shortage: bytes(&self.shortage),
            elsewhere: bytes(&self.elsewhere),
            elsewhere_room: bytes(&self.elsewhere_room),
            handed_over: count(&self.handed_over),
            brought_back: count(&self.brought_back),
            elsewhere_costs: Nanos(count(&self.elsewhere_nanos)),
            elsewhere_waited: Nanos(count(&self.waited_nanos)),
            saturated: count(&self.saturated),
        }
    }

    pub(crate) fn set(&self, figures: &ResidencyFigures) {
        let set = |counter: &AtomicU64, value: u64| counter.store(value, Ordering::Relaxed);
        set(&self.pinned, figures.pinned.0);
        set(&self.prefetch, figures.prefetch.0);
        set(&self.kv, figures.kv.0);
        set(&self.kv_room, figures.kv_room.0);
        set(&self.level, figures.level);
        set(&self.steps, figures.steps);
        set(&self.taken, figures.taken);
        set(&self.undone, figures.undone);
        set(&self.refused, figures.refused);
        set(&self.shortage, figures.shortage.0);
        set(&self.elsewhere, figures.elsewhere.0);
        set(&self.elsewhere_room, figures.elsewhere_room.0);
        set(&self.handed_over, figures.handed_over);
        set(&self.brought_back, figures.brought_back);
        set(&self.elsewhere_nanos, figures.elsewhere_costs.0);
        set(&self.waited_nanos, figures.elsewhere_waited.0);
        set(&self.saturated, figures.saturated);
    }
}
