//! Weights that pass through memory: a loader reads blocks ahead, in the order in which passes meet them.
//!
//! [`fifo`] decides what is read to where; [`shared`] has the threads that read, and the pass that waits is here. The lock that they share is
//! held for bookkeeping only, never while anybody reads or computes.

mod checks;
mod counters;
mod fifo;
mod lease;
mod pinned;
mod reader;
mod shared;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use lime_kernels::RingBuf;
use lime_plan::{Block, Bytes};

pub(crate) use checks::Checks;
pub use checks::VerifyReads;
pub use counters::{StreamCounters, StreamFigures};
pub(crate) use lease::Lease;
pub(crate) use pinned::read_pinned;
pub use reader::{BlockReader, DirectReader};

use crate::{engine_error::EngineError, rate_limit::RateLimit};
use fifo::{Fifo, Streamed, Wanted};
use lime_model::{BlockFile, BlockFiles, BlockLayout};
use shared::{Fault, Shared, State};

/// One read: large enough that a disk streams, small enough that several readers share a block.
const REQUEST: usize = lime_model::DIGEST_CHUNK;
const READERS: usize = 4;
/// Readers where each also takes the digest of what it has read: the disk is to have as many requests as with [`READERS`].
const DIGESTING_READERS: usize = crate::loader::DIGESTING_READERS;

/// A block to be streamed.
#[derive(Clone)]
pub(crate) struct StreamBlock {
    pub(crate) block: Block,
    /// Whether it is from the beginning, or only may be later.
    pub(crate) streams: bool,
    /// The visit of a pass in which it is met.
    pub(crate) segment: u32,
    pub(crate) layout: BlockLayout,
    pub(crate) file: BlockFile,
}

/// How to stream.
#[derive(Clone)]
pub(crate) struct StreamOptions {
    /// Bytes of the buffer.
    pub(crate) buffer: Bytes,
    /// So many micro-batches share a read of a block.
    pub(crate) uses: u32,
    /// Knows what the blocks' bytes should be.
    pub(crate) store: Arc<dyn BlockFiles>,
    pub(crate) verify: VerifyReads,
    pub(crate) reader: Arc<dyn BlockReader>,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) counters: Arc<StreamCounters>,
}

/// The loader of one device, running.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    layouts: BTreeMap<Block, Arc<BlockLayout>>,
    readers: Vec<JoinHandle<()>>,
    store: Arc<dyn BlockFiles>,
    planned: Bytes,
    mirrored: bool,
    /// Which blocks stream, and their sizes.
    sizes: BTreeMap<Block, (bool, u64)>,
    /// Where not every use is compared: which are.
    checks: Option<Checks>,
}

impl Stream {
    /// Takes the buffer and begins to fill it with those of `blocks` that stream; all are in the order of a pass. Of the others,
    /// those that the buffer cannot hold are left out: it is cut into slots where all that stream are of one size.
    ///
    /// # Errors
    /// When there is too little memory, or the buffer is too small for a block.
    pub(crate) fn start(mut blocks: Vec<StreamBlock>, options: StreamOptions) -> Result<Self, EngineError> {
        let streaming = blocks.iter().filter(|streamed| streamed.streams);
        let sizes: Vec<u64> = streaming.map(|streamed| streamed.layout.bytes).collect();
        let (capacity, mirrored) = fifo::buffer_size(&sizes, options.buffer);
        let fits = |bytes: u64| if mirrored { bytes <= capacity } else { sizes.first() == Some(&bytes) };
        blocks.retain(|streamed| streamed.streams || fits(streamed.layout.bytes));
        if let Some(largest) = blocks.iter().max_by_key(|streamed| streamed.layout.bytes)
            && largest.layout.bytes > capacity
        {
            let (block, needed) = (largest.block, Bytes(largest.layout.bytes));
            return Err(EngineError::Prefetch { block, needed, planned: options.buffer });
        }
        let ring = if mirrored { RingBuf::mirrored(capacity as usize)? } else { RingBuf::plain(capacity as usize)? };
        let streamed = |streamed: &StreamBlock| Streamed {
            block: streamed.block,
            bytes: streamed.layout.bytes,
            segment: streamed.segment,
        };
        let order = blocks.iter().map(streamed).collect();
        let mut fifo = Fifo::new(order, capacity, REQUEST as u64, options.uses);
        for idle in blocks.iter().filter(|streamed| !streamed.streams) {
            fifo.set_streams(idle.block, false);
        }
        let every_use = options.verify.is_every_use();
        let checks = (!every_use).then(|| Checks::of(blocks.iter().map(|streamed| streamed.block), options.verify));
        let sizes = blocks.iter().map(|it| (it.block, (it.streams, it.layout.bytes))).collect();
        let (layouts, files) = blocks.into_iter().map(|it| ((it.block, Arc::new(it.layout)), it.file)).unzip();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { fifo, stopping: false }),
            room: Condvar::new(),
            arrived: Condvar::new(),
            ring,
            files,
            reader: options.reader,
            digests: every_use.then(|| Arc::clone(&options.store)),
            limit: options.bytes_per_second.map(RateLimit::new),
            counters: options.counters,
        });
        let count = if every_use { DIGESTING_READERS } else { READERS };
        let readers = Vec::with_capacity(count);
        let (store, planned) = (options.store, options.buffer);
        let mut stream = Self { shared, layouts, readers, store, planned, mirrored, sizes, checks };
        stream.count();
        for _ in 0..count {
            let shared = Arc::clone(&stream.shared);
            let reader = thread::Builder::new().name("lime-read".to_owned()).stack_size(STACK);
            let reader = reader.spawn(move || shared.read_ahead()).map_err(EngineError::Threads)?;
            stream.readers.push(reader);
        }
        Ok(stream)
    }

    /// Whether `block` streams from now on. Nothing that passes still hold is touched.
    pub(crate) fn set_streams(&mut self, block: Block, streams: bool) {
        let Some((now, _)) = self.sizes.get_mut(&block) else { return };
        *now = streams;
        self.shared.lock().fifo.set_streams(block, streams);
        self.shared.room.notify_all();
        self.count();
    }

    fn count(&self) {
        let streamed = self.sizes.values().filter(|(streams, _)| *streams);
        let (blocks, bytes) = streamed.fold((0, 0), |(blocks, sum), (_, bytes)| (blocks + 1, sum + bytes));
        self.shared.counters.residency(blocks, bytes);
    }

    /// See [`Fifo::set_followed`].
    pub(crate) fn set_followed(&self, followed: bool) {
        self.shared.lock().fifo.set_followed(followed);
    }

    /// Ends the stream; gives which blocks were compared with their digests when.
    pub(crate) fn into_checks(mut self) -> Option<Checks> {
        self.checks.take()
    }

    /// Goes on comparing where the stream before left off.
    pub(crate) fn inherit(&mut self, checks: Option<Checks>) {
        self.checks = checks;
    }

    /// Reads everything anew, from files that may be others. No pass holds or awaits a block.
    pub(crate) fn renew(&self) {
        // Files first: what is read from now on comes from those that are there now.
        self.shared.files.iter().for_each(|file| self.shared.reader.forget(file));
        self.shared.lock().fifo.give_up();
        self.shared.room.notify_all();
    }

    /// Whether this is the stream for `blocks` through a buffer of so many bytes.
    pub(crate) fn is_for(&self, blocks: &[Block], buffer: Bytes) -> bool {
        let sizes: Option<Vec<u64>> = blocks.iter().map(|block| Some(self.sizes.get(block)?.1)).collect();
        let mirrored = sizes.map(|sizes| fifo::buffer_size(&sizes, buffer).1);
        self.planned == buffer && mirrored == Some(self.mirrored)
    }

    /// Bytes of the buffer.
    pub(crate) fn buffer(&self) -> Bytes {
        Bytes(self.shared.ring.len() as u64)
    }

    /// The block that a pass needs now, when it is there.
    ///
    /// # Errors
    /// When it could not be read, is damaged, is not streamed here, or what the caller holds leaves no room for it.
    pub(crate) fn wait_for(&mut self, block: Block) -> Result<(Lease, Arc<BlockLayout>), EngineError> {
        let layout = Arc::clone(self.layouts.get(&block).ok_or(EngineError::NotHere { block })?);
        let (lease, digests) = self.lease(block)?;
        let Some(checks) = &mut self.checks else {
            // Without digests it was compared already, for another micro-batch.
            let verdict = if digests.is_empty() { Ok(()) } else { self.store.check(block, &layout, &digests) };
            return Ok((judged(block, verdict, lease)?, layout));
        };
        if !checks.is_due(block) {
            return Ok((lease, layout));
        }
        let lease = judged(block, self.store.check_bytes(block, &layout, lease.bytes()), lease)?;
        checks.passed(block);
        Ok((lease, layout))
    }

    /// The same lease, if its bytes are those of the block.
    ///
    /// # Errors
    /// When they are not: they are given back, and what comes next is read anew.
    pub(crate) fn compared(&self, block: Block, layout: &BlockLayout, lease: Lease) -> Result<Lease, EngineError> {
        judged(block, self.store.check_bytes(block, layout, lease.bytes()), lease)
    }

    /// The block when it is there, and the digests of what was read of it, unless they were asked for before.
    fn lease(&self, block: Block) -> Result<(Lease, Vec<u128>), EngineError> {
        let shared = &self.shared;
        let mut since = None;
        let mut state = shared.lock();
        loop {
            match state.fifo.want(block) {
                Wanted::Here { passage, at, bytes } => {
                    shared.counters.wasted(state.fifo.wasted());
                    let digests = state.fifo.take_digests(passage);
                    drop(state);
                    shared.counters.was_used(bytes, since.map(|since: Instant| since.elapsed()));
                    let claim = shared.ring.read(at as usize, bytes as usize);
                    let lease = Lease { shared: Arc::clone(shared), passage, bytes: claim };
                    debug_assert!(lease.bytes.is_some(), "a block that is there is being written");
                    return match lease.bytes {
                        Some(_) => Ok((lease, digests)),
                        None => Err(EngineError::Stuck { block }),
                    };
                }
                Wanted::Coming => {
                    since.get_or_insert_with(Instant::now);
                    // Wishing may have made room.
                    shared.room.notify_all();
                    state = shared.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Wanted::Failed(Fault { file, source }) => {
                    // It may be made anew before it is read again.
                    shared.reader.forget(&shared.files[file]);
                    let path = shared.files[file].path.clone();
                    return Err(EngineError::Stream { block, path, source });
                }
                Wanted::Stuck => return Err(EngineError::Stuck { block }),
                Wanted::Unknown => return Err(EngineError::NotHere { block }),
            }
        }
    }
}

/// The lease, unless its bytes were found to be other than the block's: they are given back, and what comes next is read anew.
fn judged(block: Block, verdict: io::Result<()>, lease: Lease) -> Result<Lease, EngineError> {
    match verdict {
        Ok(()) => Ok(lease),
        Err(source) => {
            lease.discard();
            Err(EngineError::NotStored { block, source })
        }
    }
}

/// Readers call little: their stacks need not be large.
const STACK: usize = 256 << 10;

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.room.notify_all();
        for reader in self.readers.drain(..) {
            // A reader catches what it reads with: nothing is left to say.
            let _ = reader.join();
        }
    }
}
