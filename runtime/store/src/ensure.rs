//! Making exactly the blocks that a device needs, several at once.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use lime_plan::{Block, Bytes, Encoding};

use crate::{
    connect::connect,
    disk,
    error::StoreError,
    make::{Made, Maker},
    model::StoredModel,
    names::remove,
    origin::Origin,
    part::Part,
    pieces::pieces,
    progress::{Meter, PullProgress},
    state::{BlockState, header_bytes},
    verify::verify,
};

/// How blocks are made.
#[derive(Clone, Copy, Debug)]
pub struct EnsureOptions<'a> {
    /// Blocks made at once: connections to a server, or copies.
    pub connections: usize,
    /// Blocks that are read where they are there, and compared with their digests; of the others sizes and headers say enough.
    pub verify: &'a [Block],
    /// The plan streams the embedding: a tied head then reads a matrix of its own.
    pub embedding_streams: bool,
    /// How the blocks are to lie on the disk. Compact ones are made from raw ones, which go when they were not there before.
    pub encoding: Encoding,
}

impl Default for EnsureOptions<'_> {
    fn default() -> Self {
        Self { connections: 4, verify: &[], embedding_streams: false, encoding: Encoding::Raw }
    }
}

/// What it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ensured {
    /// Blocks that were there.
    pub there: usize,
    /// Blocks that were made, by this process or meanwhile by another.
    pub made: Vec<Block>,
    /// Those among them that had been there and were damaged, with what was wrong.
    pub repaired: Vec<(Block, String)>,
}

impl StoredModel {
    /// Makes exactly `blocks`, of which those that are whole are left alone, those half-made are gone on with and those damaged
    /// are made again. Of a tied head beside an embedding that stays in memory only the norm is made. `listener` hears of every step.
    ///
    /// Other processes may do the same at the same time: each block is made by one of them.
    ///
    /// # Errors
    /// What the source or the disk refused; what was made until then stays.
    pub fn ensure(
        &self,
        blocks: &[Block],
        options: EnsureOptions<'_>,
        listener: &mut (dyn FnMut(&PullProgress) + Send),
    ) -> Result<Ensured, StoreError> {
        let origin = connect(&self.manifest().source()?, self.remote())?;
        ensure(self, &*origin, blocks, options, listener)
    }
}

/// Makes those of `blocks` that are not whole.
fn ensure(
    model: &StoredModel,
    origin: &dyn Origin,
    blocks: &[Block],
    options: EnsureOptions<'_>,
    listener: &mut (dyn FnMut(&PullProgress) + Send),
) -> Result<Ensured, StoreError> {
    let parts = Part::for_device(model.folder().config(), blocks, options.embedding_streams, options.encoding);
    let damaged = condemn(model, &parts, options.verify)?;
    let anew = damaged.iter().map(|(part, _)| *part).collect();
    let due = |part: &Part| damaged.iter().any(|(damaged, _)| damaged == part) || !model.is_whole(*part);
    let mut wanted: Vec<Part> = parts.iter().copied().filter(due).collect();
    check_space(model, &wanted, options.connections)?;
    let start = measure(model, &parts, &wanted)?;
    let meter = Meter::new(start, listener);
    // The largest first, so that at the end no connection waits for one block.
    wanted.sort_by_key(|part| (Reverse(part.layout(model.folder().config()).bytes), *part));
    let stop = AtomicBool::new(false);
    make_all(&Maker { model, origin, meter: &meter, stop: &stop, anew: &anew }, &wanted, options.connections)?;

    wanted.sort();
    let repaired = damaged.into_iter().map(|(part, reason)| (part.block(), reason)).collect();
    Ok(Ensured { there: parts.len() - wanted.len(), made: wanted.iter().map(|part| part.block()).collect(), repaired })
}

/// Finds those among `parts` that must be made again. What is damaged is removed, so that nobody reads it meanwhile; what cannot be
/// read stays until there is another in its place: the disk may be well again before the source is.
fn condemn(model: &StoredModel, parts: &[Part], read: &[Block]) -> Result<Vec<(Part, String)>, StoreError> {
    let (read, others): (Vec<Part>, Vec<Part>) = parts.iter().partition(|part| read.contains(&part.block()));
    let mut found = verify(model, &read, &|_, _| {})?;
    let states = others.into_iter().map(|part| (part, model.look(part)));
    found.extend(states.filter(|(_, state)| state.fault().is_some()));
    let mut condemned = Vec::with_capacity(found.len());
    for (part, state) in found {
        let (path, reason) = (model.names(part).whole, state.fault().unwrap_or_default().to_owned());
        if matches!(state, BlockState::Unreadable(_)) {
            tracing::warn!(file = %path.display(), reason, "the disk does not give it: made anew beside it");
        } else {
            tracing::warn!(file = %path.display(), reason, "damaged: made again");
            remove(&path)?;
        }
        condemned.push((part, reason));
    }
    Ok(condemned)
}

/// Refuses what cannot fit, before anything is fetched.
fn check_space(model: &StoredModel, wanted: &[Part], connections: usize) -> Result<(), StoreError> {
    let needed = |part: &Part| {
        let layout = part.layout(model.folder().config());
        let size = header_bytes(model.key(), *part, &layout) + layout.bytes;
        size.saturating_sub(disk::allocated(&model.names(*part).part))
    };
    // Each compact block is made from a raw one, and at most so many of those are there at once.
    let raw = wanted.iter().filter_map(|part| match part {
        Part::Compact(block) => Some(Part::Whole(*block)).filter(|raw| !model.is_whole(*raw)),
        Part::Whole(_) | Part::HeadNorm => None,
    });
    let mut raw: Vec<u64> = raw.map(|raw| needed(&raw)).collect();
    raw.sort_by_key(|bytes| Reverse(*bytes));
    let between: u64 = raw.iter().take(connections.max(1)).sum();
    let (needed, folder) = (Bytes(wanted.iter().map(needed).sum::<u64>() + between), model.blocks_folder());
    let free = disk::free_bytes(&folder)?;
    if needed > free {
        return Err(StoreError::NoSpace { path: folder, wanted: needed, free, short: needed.saturating_sub(free) });
    }
    Ok(())
}

fn measure(model: &StoredModel, parts: &[Part], wanted: &[Part]) -> Result<PullProgress, StoreError> {
    let (mut before, mut total) = (0, 0);
    for part in parts {
        let bytes: u64 = pieces(model.folder(), *part)?.iter().map(|piece| piece.bytes).sum();
        total += bytes;
        before += if wanted.contains(part) { model.started_bytes(*part).min(bytes) } else { bytes };
    }
    let (blocks, of_blocks) = (parts.len() - wanted.len(), parts.len());
    Ok(PullProgress { block: None, done: Bytes(before), before: Bytes(before), total: Bytes(total), blocks, of_blocks })
}

fn make_all(maker: &Maker<'_>, wanted: &[Part], connections: usize) -> Result<(), StoreError> {
    let queue: Mutex<VecDeque<(Part, bool)>> = Mutex::new(wanted.iter().map(|part| (*part, false)).collect());
    let failed = Mutex::new(None);
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        while let Some((part, wait)) = take().filter(|_| !maker.stop.load(Ordering::Relaxed)) {
            match maker.make(part, wait) {
                // Another process is at it: first all that nobody is at, then wait for it.
                Ok(Made::Busy) => queue.lock().unwrap_or_else(PoisonError::into_inner).push_back((part, true)),
                Ok(Made::Now | Made::Elsewhere) => maker.meter.step(|progress| {
                    (progress.block, progress.blocks) = (Some(part.block()), progress.blocks + 1);
                }),
                Ok(Made::Stopped) => {}
                Err(fault) => {
                    maker.stop.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                }
            }
        }
    };
    thread::scope(|scope| (0..connections.clamp(1, wanted.len().max(1))).for_each(|_| drop(scope.spawn(work))));
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
