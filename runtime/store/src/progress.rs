//! How far a pull is.

use std::sync::Mutex;

use lime_plan::{Block, Bytes};

/// How far a pull is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// The block that made the last step.
    pub block: Option<Block>,
    /// Bytes of weights that are on the disk, those from before counted.
    pub done: Bytes,
    /// Bytes of weights that were on the disk already when this began.
    pub before: Bytes,
    /// Bytes of weights in all.
    pub total: Bytes,
    /// Blocks that are whole.
    pub blocks: usize,
    /// Blocks in all.
    pub of_blocks: usize,
}

/// Who hears of every step.
pub(crate) type Listener<'a> = &'a mut (dyn FnMut(&PullProgress) + Send);

/// Gathers the steps of several threads for one listener.
pub(crate) struct Meter<'a> {
    inner: Mutex<(PullProgress, Listener<'a>)>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(start: PullProgress, listener: Listener<'a>) -> Self {
        listener(&start);
        Self { inner: Mutex::new((start, listener)) }
    }

    /// Changes the numbers and tells the listener.
    pub(crate) fn step(&self, change: impl FnOnce(&mut PullProgress)) {
        // A listener that panicked elsewhere is no reason to lose count here.
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (progress, listener) = &mut *inner;
        change(progress);
        listener(progress);
    }
}
