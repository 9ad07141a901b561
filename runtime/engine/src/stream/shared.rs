//! What the threads that read and the pass that waits share, and how those read.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use lime_kernels::RingBuf;

use super::{
    counters::StreamCounters,
    fifo::{Fifo, Request},
    reader::{self, BlockReader},
};
use crate::rate_limit::RateLimit;
use lime_model::{BlockFile, BlockFiles};

/// What readers and passes share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// A reader may find something to read.
    pub(super) room: Condvar,
    /// A pass may find its block.
    pub(super) arrived: Condvar,
    pub(super) ring: Arc<RingBuf>,
    pub(super) files: Vec<BlockFile>,
    pub(super) reader: Arc<dyn BlockReader>,
    /// Takes the digest of all that is read, where every use is compared.
    pub(super) digests: Option<Arc<dyn BlockFiles>>,
    pub(super) limit: Option<RateLimit>,
    pub(super) counters: Arc<StreamCounters>,
}

pub(super) struct State {
    pub(super) fifo: Fifo<Fault>,
    pub(super) stopping: bool,
}

/// Which file, and what was wrong with it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) file: usize,
    pub(super) source: io::Error,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads whatever there is room for until the stream stops.
    pub(super) fn read_ahead(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let Some(request) = state.fifo.next_read() else {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let outcome = self.read(request);
            state = self.lock();
            if let Ok(Some(digest)) = outcome {
                state.fifo.note_digest(request, digest);
            }
            let outcome = outcome.map(drop).map_err(|source| Fault { file: request.index, source });
            state.fifo.read_done(request, outcome);
            self.arrived.notify_all();
            // What was skipped may have left the buffer with this read.
            self.room.notify_all();
        }
    }

    /// Reads, and takes the digest of what was read where that is to be compared.
    fn read(&self, request: Request) -> io::Result<Option<u128>> {
        if let Some(limit) = &self.limit {
            limit.wait(request.bytes);
        }
        let claimed = self.ring.write(request.to as usize, request.bytes as usize);
        let mut into = claimed.ok_or_else(|| io::Error::other("its place in the buffer is in use"))?;
        let file = &self.files[request.index];
        let again = |fault: &io::Error| {
            self.counters.was_retried();
            tracing::warn!(path = %file.path.display(), offset = request.from, %fault, "a read failed, it is tried again");
        };
        let reader = self.reader.as_ref();
        let read = || {
            reader::read_all(reader, file, request.from, &mut into, again)?;
            Ok(self.digests.as_ref().map(|store| store.digest(&into)))
        };
        // A reader that panics fails its pass and not the ring.
        let read =
            catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(io::Error::other("the reader panicked")));
        self.counters.was_read(request.bytes, reader.is_direct());
        read
    }
}
