//! What a worker has done, for its status.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lime_engine::{KeptCounters, ResidencyCounters, ResidencyFigures, StreamCounters, StreamFigures};
use lime_ring::{
    LinkCounters,
    proto::{PageDiskFigures, WorkFigures},
};

use crate::{
    compute::{Compute, Footprint},
    disk_counters::PageDiskCounters,
};

/// Counted since the worker started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) passes: AtomicU64,
    pub(crate) compute_micros: AtomicU64,
    pub(crate) wait_micros: AtomicU64,
    pub(crate) link: Arc<LinkCounters>,
    /// KV pages of other devices.
    pub(crate) kept: Arc<KeptCounters>,
    footprint: Mutex<Footprint>,
    /// Of the engine that is loaded.
    streaming: Mutex<Arc<StreamCounters>>,
    residency: Mutex<Option<Arc<ResidencyCounters>>>,
    page_disk: Mutex<Arc<PageDiskCounters>>,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        counter.fetch_add(micros, Ordering::Relaxed);
    }

    /// An engine was taken up.
    pub(crate) fn use_engine(&self, engine: &dyn Compute) {
        *self.footprint.lock().unwrap_or_else(PoisonError::into_inner) = engine.footprint();
        *self.streaming.lock().unwrap_or_else(PoisonError::into_inner) = engine.streaming();
        *self.residency.lock().unwrap_or_else(PoisonError::into_inner) = engine.residency();
        *self.page_disk.lock().unwrap_or_else(PoisonError::into_inner) = engine.page_disk();
    }

    /// Passes, and where their time went.
    pub(crate) fn work(&self) -> WorkFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkFigures {
            passes: count(&self.passes),
            compute_micros: count(&self.compute_micros),
            send_micros: count(&self.link.send_micros),
            wait_micros: count(&self.wait_micros),
        }
    }

    /// What memory holds; `None` where the engine does not change it.
    pub(crate) fn residency(&self) -> Option<ResidencyFigures> {
        self.residency.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|counters| counters.figures())
    }

    pub(crate) fn streaming(&self) -> StreamFigures {
        self.streaming.lock().unwrap_or_else(PoisonError::into_inner).figures()
    }

    pub(crate) fn page_disk(&self) -> PageDiskFigures {
        self.page_disk.lock().unwrap_or_else(PoisonError::into_inner).figures()
    }

    pub(crate) fn footprint(&self) -> Footprint {
        let taken_up = self.footprint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.residency() {
            Some(ResidencyFigures { pinned, prefetch, kv, .. }) => Footprint { pinned, prefetch, kv, ..taken_up },
            None => taken_up,
        }
    }
}
