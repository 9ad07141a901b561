//! What a device has in memory, and how that changes while it serves: its blocks, its KV cache, and the pages that another device
//! keeps. Layers say what a pass needs ([`Memory::admit`]); how room for it is made is decided here alone.

mod lending;
mod prefixes;
mod pressure;
mod saturation;

use std::{ops::Range, sync::Arc};

use lime_plan::{BatchRows, Bytes, Nanos};

use crate::{
    backend::{KvPool, RemotePages},
    batch::Batch,
    engine_error::EngineError,
    keeper::PageKeeper,
    kv::KvTables,
    residency::{Blocks, LinkWatch, ResidencyCounters, ResidencyFigures, StepPolicy},
};

/// Blocks `S` and a KV cache in a pool `P`, with the decisions about both.
pub(crate) struct Memory<S, P> {
    pub(crate) blocks: S,
    kv: Kv<P>,
    keeper: Option<RemotePages>,
    policy: StepPolicy,
    link: LinkWatch,
    figures: ResidencyFigures,
    /// Pages that were to be kept and are not, or not any more, since somebody asked.
    forgotten: Vec<u64>,
    /// Pages on the disk.
    spill: prefixes::Spill,
    told: Arc<ResidencyCounters>,
    sizes: Sizes,
}

/// Which page holds what, and the pages.
struct Kv<P> {
    tables: KvTables,
    pool: P,
}

/// What does not change while a plan is in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A KV page.
    pub(crate) page: Bytes,
    /// The buffers that it takes to ask about remote pages.
    pub(crate) exchange: Bytes,
    /// Questions of a pass about remote pages: one for each layer and micro-batch.
    pub(crate) questions: u32,
    /// Query heads, and the width of each.
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

/// How many sequences there are and how long each may be.
#[derive(Clone, Debug)]
pub(crate) struct Sequences {
    pub(crate) slots: usize,
    pub(crate) most_positions: u32,
    /// Whether this device has layers in each segment.
    pub(crate) has_layers: Vec<bool>,
}

/// What a pass runs with.
pub(crate) struct Admitted<'a, S, P> {
    pub(crate) batch: Batch<'a>,
    pub(crate) blocks: &'a mut S,
    pub(crate) kv: &'a mut P,
    pub(crate) keeper: Option<&'a mut RemotePages>,
}

impl<S: Blocks, P: KvPool> Memory<S, P> {
    pub(crate) fn new(blocks: S, pool: P, sequences: &Sequences, sizes: Sizes) -> Self {
        let Sequences { slots, most_positions, has_layers } = sequences;
        // Pages of a pool that is taken whole take nothing more.
        let page = if pool.fixed().is_zero() { sizes.page } else { Bytes::ZERO };
        let tables = KvTables::new(*slots, has_layers, *most_positions, page);
        let mut memory = Self {
            blocks,
            kv: Kv { tables, pool },
            keeper: None,
            policy: StepPolicy::default(),
            link: LinkWatch::default(),
            figures: ResidencyFigures::default(),
            forgotten: Vec::new(),
            spill: prefixes::Spill::default(),
            told: Arc::default(),
            sizes,
        };
        memory.publish();
        memory
    }

    /// Checks that `rows` continue their sequences in `segment`, and has room for them: by the plan's steps, where it must be made.
    /// Lengths change only with [`Memory::commit`].
    ///
    /// # Errors
    /// Rows that do not continue their sequences; no room, whatever gives way; a keeper or a stream that fails. Sequences stay as
    /// they were.
    pub(crate) fn admit<'a>(
        &'a mut self,
        segment: usize,
        rows: &'a [BatchRows],
    ) -> Result<Admitted<'a, S, P>, EngineError> {
        self.cut_back(segment, rows)?;
        self.make_room(segment, rows)?;
        let batch = self.kv.tables.admit(segment, rows)?;
        Ok(Admitted { batch, blocks: &mut self.blocks, kv: &mut self.kv.pool, keeper: self.keeper.as_mut() })
    }

    /// A pass has ended, well or not: notes what it brought back, and tells the figures.
    pub(crate) fn pass_ended(&mut self) {
        if self.blocks.has_returned() {
            self.policy.undone();
            self.figures.undone += 1;
            if let Some(step) = self.blocks.steps().stream_steps().get(self.blocks.level()) {
                tracing::info!(block = %step.block, kv = %self.kv_bytes(), "the block is kept in memory again");
            }
            // Where the smaller buffer cannot be had now, the next pass asks again and says so.
            let _ = self.blocks.fit_stream();
        }
        self.note_questions();
        self.publish();
    }

    /// The rows of a pass are stored in `segment`.
    pub(crate) fn commit(&mut self, segment: usize, rows: &[BatchRows]) {
        self.kv.tables.commit(segment, rows);
    }

    /// Forgets the sequence in `slot`.
    pub(crate) fn release(&mut self, slot: u32) {
        self.release_remote(slot);
        let mut idle = Vec::new();
        self.kv.tables.release(slot, |range| idle.push(range));
        self.give_back(idle);
    }

    /// Forgets every sequence, and the numbers of what is kept.
    pub(crate) fn reset(&mut self) {
        (0..self.kv.tables.slots()).for_each(|slot| self.release_remote(slot));
        let mut idle = Vec::new();
        self.kv.tables.reset(|range| idle.push(range));
        self.forgotten.clear();
        self.give_back(idle);
    }

    /// The device that keeps KV pages for this one from now on, for the plan's step that hands pages over: without such a step
    /// nobody is asked. No sequence has remote pages.
    pub(crate) fn set_keeper(&mut self, keeper: Option<Box<dyn PageKeeper>>) {
        let planned = self.blocks.steps().hand_over().is_some();
        self.keeper = keeper.filter(|_| planned).map(RemotePages::new);
        self.link = LinkWatch::default();
        self.publish();
    }

    /// The figures of this moment.
    pub(crate) const fn figures(&self) -> &ResidencyFigures {
        &self.figures
    }

    /// The same, to be read while they change.
    pub(crate) fn told(&self) -> Arc<ResidencyCounters> {
        Arc::clone(&self.told)
    }

    /// Buffers that are in use because pages are remote.
    pub(crate) fn buffers(&self) -> Bytes {
        if self.kv.tables.all_remote() > 0 { self.sizes.exchange } else { Bytes::ZERO }
    }

    /// Memory that the KV cache takes, with copies of pages on their way to the disk.
    fn kv_bytes(&self) -> Bytes {
        self.kv.pool.fixed() + self.kv.tables.bytes() + self.spill.copies()
    }

    /// Memory that it takes once `rows` are admitted.
    fn kv_bytes_with(&self, segment: usize, rows: &[BatchRows]) -> Result<Bytes, EngineError> {
        Ok(self.kv.pool.fixed() + self.kv.tables.bytes_with(segment, rows)? + self.spill.copies())
    }

    /// Gives memory of KV pages that nobody uses back to the system.
    fn give_back(&mut self, idle: Vec<Range<usize>>) {
        idle.into_iter().for_each(|range| self.kv.pool.give_back(range));
        self.publish();
    }

    /// Tells the counters.
    fn publish(&mut self) {
        let (steps, shortage) = (self.blocks.steps(), self.policy.short());
        let over = steps.hand_over().filter(|_| self.keeper.is_some());
        let fixed = self.kv.pool.fixed();
        let kv_room = if fixed.is_zero() { steps.room(self.blocks.level()) } else { fixed };
        self.figures = ResidencyFigures {
            pinned: self.blocks.pinned_bytes(),
            prefetch: self.blocks.buffer(),
            kv: self.kv_bytes(),
            kv_room: kv_room.saturating_sub(shortage),
            level: self.blocks.level() as u64,
            steps: steps.stream_steps().len() as u64,
            shortage,
            remote: self.sizes.page * u64::from(self.kv.tables.all_remote()),
            remote_room: over.map_or(Bytes::ZERO, |over| over.page * u64::from(over.pages)),
            remote_costs: over.map_or(Nanos::ZERO, |over| self.link.costs(over.costs)),
            ..self.figures
        };
        self.told.set(self.figures);
    }
}
