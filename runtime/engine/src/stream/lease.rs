//! A block in the buffer that a pass computes with.

use std::sync::Arc;

use lime_kernels::RingRead;

use super::{fifo::Passage, shared::Shared};

/// A block in the buffer, for as long as this lives.
pub(crate) struct Lease {
    pub(super) shared: Arc<Shared>,
    pub(super) passage: Passage,
    /// Empty only while it is given back.
    pub(super) bytes: Option<RingRead>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("passage", &self.passage).finish_non_exhaustive()
    }
}

impl Lease {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    /// Gives bytes back that are damaged: the next who asks for the block gets it from the disk again, from a file that may be
    /// another.
    pub(super) fn discard(self) {
        let mut state = self.shared.lock();
        if let Some(index) = state.fifo.spoil(self.passage) {
            self.shared.reader.forget(&self.shared.files[index]);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The claim goes first: the next reader claims the same bytes.
        self.bytes = None;
        self.shared.lock().fifo.give_back(self.passage);
        self.shared.room.notify_all();
    }
}
