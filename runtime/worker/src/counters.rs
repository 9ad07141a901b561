//! What a worker has done, for its status.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lime_ring::LinkCounters;

use crate::compute::Footprint;

/// Counted since the worker started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) passes: AtomicU64,
    pub(crate) compute_micros: AtomicU64,
    pub(crate) wait_micros: AtomicU64,
    pub(crate) link: Arc<LinkCounters>,
    footprint: Mutex<Footprint>,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        counter.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn set_footprint(&self, footprint: Footprint) {
        *self.footprint.lock().unwrap_or_else(PoisonError::into_inner) = footprint;
    }

    pub(crate) fn footprint(&self) -> Footprint {
        self.footprint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
