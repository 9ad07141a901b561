//! What is done with KV pages on this device's disk, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use lime_ring::proto::PageDiskFigures;

/// What has been done with pages on the disk, to be read while it changes.
#[derive(Debug, Default)]
pub struct PageDiskCounters {
    pub(crate) pages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) limit: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl PageDiskCounters {
    /// For a status.
    pub(crate) fn figures(&self) -> PageDiskFigures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PageDiskFigures {
            pages: get(&self.pages),
            bytes: get(&self.bytes),
            limit_bytes: get(&self.limit),
            written: get(&self.written),
            read: get(&self.read),
            damaged: get(&self.damaged),
            failed: get(&self.failed),
        }
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
