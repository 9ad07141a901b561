//! What streaming has done so far, to be read while it goes on.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// Counted by the loader and by passes, for status and metrics.
#[derive(Debug, Default)]
pub struct StreamCounters {
    read: AtomicU64,
    used: AtomicU64,
    wasted: AtomicU64,
    waited_nanos: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    retries: AtomicU64,
    streamed_blocks: AtomicU64,
    streamed_size: AtomicU64,
    buffered: AtomicBool,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFigures {
    /// Bytes read from the disk.
    pub read_bytes: u64,
    /// Bytes of the blocks that passes computed with; a block counts as often as a pass met it.
    pub used_bytes: u64,
    /// Bytes read that no pass wanted.
    pub wasted_bytes: u64,
    /// Time that passes waited for blocks.
    pub waited: Duration,
    /// Blocks that were there when a pass came to them.
    pub hits: u64,
    /// Blocks that it had to wait for.
    pub misses: u64,
    /// Reads that were tried again.
    pub retries: u64,
    /// Blocks that stream now.
    pub streamed_blocks: u64,
    /// Their bytes: what a pass reads.
    pub streamed_size: u64,
    /// Whether reads go through the page cache, for want of direct ones.
    pub buffered: bool,
}

impl StreamCounters {
    /// The figures now.
    pub fn figures(&self) -> StreamFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StreamFigures {
            read_bytes: count(&self.read),
            used_bytes: count(&self.used),
            wasted_bytes: count(&self.wasted),
            waited: Duration::from_nanos(count(&self.waited_nanos)),
            hits: count(&self.hits),
            misses: count(&self.misses),
            retries: count(&self.retries),
            streamed_blocks: count(&self.streamed_blocks),
            streamed_size: count(&self.streamed_size),
            buffered: self.buffered.load(Ordering::Relaxed),
        }
    }

    pub(super) fn residency(&self, blocks: usize, bytes: u64) {
        self.streamed_blocks.store(blocks as u64, Ordering::Relaxed);
        self.streamed_size.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn was_read(&self, bytes: u64, direct: bool) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.buffered.store(!direct, Ordering::Relaxed);
    }

    pub(super) fn was_retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A pass has a block; `waited` where it was not there yet.
    pub(super) fn was_used(&self, bytes: u64, waited: Option<Duration>) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        let counter = if waited.is_some() { &self.misses } else { &self.hits };
        counter.fetch_add(1, Ordering::Relaxed);
        let nanos = waited.unwrap_or_default().as_nanos();
        self.waited_nanos.fetch_add(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn wasted(&self, bytes: u64) {
        self.wasted.store(bytes, Ordering::Relaxed);
    }
}
