//! Which blocks a device keeps, and how that changes while it serves.
//!
//! Blocks that the plan's steps may give up lie at the end of the arena, the first to go last: so that what is given up is always
//! the arena's end, whole huge pages of it go back to the system, and nothing is copied. A block comes back when a pass meets it:
//! from the buffer that it streams through, by a copy, without a read of its own.

mod blocks;
mod counters;
mod kept;
mod link;
mod policy;

use std::{collections::BTreeMap, sync::Arc};

use lime_kernels::RingBuf;
use lime_plan::{Block, Bytes, DeviceSteps};

pub(crate) use blocks::Blocks;
pub use counters::{ResidencyCounters, ResidencyFigures};
pub use kept::Verified;
pub(crate) use link::LinkWatch;
pub use policy::Shortage;
pub(crate) use policy::{Decision, MemoryUse, StepPolicy};

use crate::{
    engine_error::EngineError,
    read_from::ReadFrom,
    stream::{Lease, Stream, StreamBlock, StreamOptions},
    weights::{BlockSource, HostBlock, HostMemory, LoadedBlocks, Pinned},
};
use lime_model::BlockLayout;

/// Blocks in memory, and those that pass through it.
pub(crate) struct Resident {
    pinned: Pinned<HostBlock>,
    stream: Option<Stream>,
    arena: Arc<RingBuf>,
    /// Where in it each block lies while it is kept.
    starts: BTreeMap<Block, usize>,
    /// Blocks that should be kept and turned out damaged, until they have been read again.
    lost: BTreeMap<Block, Arc<BlockLayout>>,
    /// The store that they came from, where it was one.
    read_from: Option<ReadFrom>,
    steps: DeviceSteps,
    /// Steps taken.
    level: usize,
    /// Where the arena's part in use ends.
    end: usize,
    /// The step that is undone as soon as a pass meets its block.
    returning: bool,
    /// A step was undone since it was last asked.
    returned: bool,
    recipe: Option<StreamRecipe>,
    base_buffer: Bytes,
    /// Whether the stream is known to be the one for the level.
    fitted: bool,
}

/// What a stream of this device is made of.
pub(crate) struct StreamRecipe {
    /// Every block that streams or may stream, in the order of a pass, as it is at level 0.
    pub(crate) blocks: Vec<StreamBlock>,
    pub(crate) options: StreamOptions,
}

impl Resident {
    /// Blocks as they are loaded, those of `steps` last and in reverse; streaming begins where the plan streams.
    ///
    /// # Errors
    /// When the buffer cannot be had.
    pub(crate) fn new(
        loaded: LoadedBlocks,
        steps: DeviceSteps,
        recipe: Option<StreamRecipe>,
        read_from: Option<ReadFrom>,
    ) -> Result<Self, EngineError> {
        let base_buffer = recipe.as_ref().map_or(Bytes::ZERO, |recipe| recipe.options.buffer);
        let LoadedBlocks { blocks, arena } = loaded;
        let mut start = 0;
        let starts = blocks.iter().map(|(block, held)| {
            let begins = start;
            start += held.layout.bytes as usize;
            (*block, begins)
        });
        let starts = starts.collect();
        let mut this = Self {
            pinned: Pinned::from_iter(blocks),
            stream: None,
            end: arena.len(),
            arena,
            starts,
            lost: BTreeMap::new(),
            read_from,
            steps,
            level: 0,
            returning: false,
            returned: false,
            recipe,
            base_buffer,
            fitted: false,
        };
        this.fit_stream()?;
        Ok(this)
    }

    /// Keeps a block that has just come through the buffer, if it is the one to keep again.
    fn keep(
        &mut self,
        block: Block,
        lease: Lease,
        layout: Arc<lime_model::BlockLayout>,
    ) -> Result<HostBlock, EngineError> {
        let step = self.level.checked_sub(1).map(|last| self.steps.stream_steps()[last]);
        let Some(step) = step.filter(|step| self.returning && step.block == block) else {
            return Ok(HostBlock { memory: HostMemory::Streamed(Arc::new(lease)), layout });
        };
        let bytes = step.bytes.0 as usize;
        let Some(mut room) = self.arena.write(self.end, bytes) else {
            debug_assert!(false, "the arena's end is in use");
            return Ok(HostBlock { memory: HostMemory::Streamed(Arc::new(lease)), layout });
        };
        // What is kept is not read again: it must be right.
        let lease = match &self.stream {
            Some(stream) => stream.compared(block, &layout, lease)?,
            None => lease,
        };
        room.copy_from_slice(lease.bytes());
        drop((room, lease));
        let held = self.arena.read(self.end, bytes).ok_or(EngineError::NotHere { block })?;
        let held = HostBlock { memory: HostMemory::Pinned(Arc::new(held)), layout };
        self.pinned.keep(block, held.clone());
        self.end += bytes;
        self.level -= 1;
        self.fitted = false;
        (self.returning, self.returned) = (false, true);
        if let Some(stream) = &mut self.stream {
            stream.set_streams(block, false);
        }
        Ok(held)
    }
}

impl Blocks for Resident {
    fn steps(&self) -> &DeviceSteps {
        &self.steps
    }

    fn level(&self) -> usize {
        self.level
    }

    fn keeps(&self, block: Block) -> bool {
        self.starts.get(&block).is_some_and(|start| *start < self.end)
    }

    fn pinned_bytes(&self) -> Bytes {
        Bytes(self.end as u64)
    }

    fn buffer(&self) -> Bytes {
        self.stream.as_ref().map_or(Bytes::ZERO, Stream::buffer)
    }

    fn take_steps(&mut self, level: usize) -> Result<(), EngineError> {
        self.returning = false;
        while self.level < level.min(self.steps.stream_steps().len()) {
            let step = self.steps.stream_steps()[self.level];
            self.pinned.forget(step.block);
            self.lost.remove(&step.block);
            self.end -= step.bytes.0 as usize;
            let given_back = self.arena.give_back_from(self.end);
            debug_assert!(given_back, "a pass still holds {}", step.block);
            self.level += 1;
            self.fitted = false;
            if let Some(stream) = &mut self.stream {
                stream.set_streams(step.block, true);
            }
        }
        self.fit_stream()
    }

    fn set_followed(&mut self, followed: bool) {
        if let Some(stream) = &self.stream {
            stream.set_followed(followed);
        }
    }

    fn stay(&mut self) {
        self.returning = false;
    }

    fn undo_step(&mut self) {
        self.returning = self.level > 0;
    }

    fn has_returned(&mut self) -> bool {
        std::mem::replace(&mut self.returned, false)
    }

    fn verify(&mut self) -> Result<Verified, EngineError> {
        self.verify_kept()
    }

    fn fit_stream(&mut self) -> Result<(), EngineError> {
        let Some(StreamRecipe { blocks, options }) = self.recipe.as_ref().filter(|_| !self.fitted) else {
            return Ok(());
        };
        let taken = &self.steps.stream_steps()[..self.level];
        let buffer = taken.last().map_or(self.base_buffer, |step| step.buffer);
        let streams = |it: &StreamBlock| it.streams || taken.iter().any(|step| step.block == it.block);
        let streaming: Vec<_> = blocks.iter().filter(|it| streams(it)).map(|it| it.block).collect();
        if self.stream.as_ref().is_some_and(|stream| stream.is_for(&streaming, buffer)) {
            self.fitted = true;
            return Ok(());
        }
        let before = self.stream.take();
        if streaming.is_empty() {
            self.fitted = true;
            return Ok(());
        }
        let checks = before.map(Stream::into_checks);
        let blocks = blocks.iter().map(|it| StreamBlock { streams: streams(it), ..it.clone() }).collect();
        let mut stream = Stream::start(blocks, StreamOptions { buffer, ..options.clone() })?;
        if let Some(checks) = checks {
            stream.inherit(checks);
        }
        self.stream = Some(stream);
        self.fitted = true;
        Ok(())
    }
}

impl BlockSource for Resident {
    type Weights = HostBlock;

    fn block(&mut self, block: Block) -> Result<HostBlock, EngineError> {
        match (self.pinned.block(block), &mut self.stream) {
            (Err(EngineError::NotHere { .. }), Some(stream)) if !self.lost.contains_key(&block) => {
                let (lease, layout) = stream.wait_for(block)?;
                self.keep(block, lease, layout)
            }
            (pinned, _) => pinned.map_err(|fault| self.missed(block, fault)),
        }
    }
}
