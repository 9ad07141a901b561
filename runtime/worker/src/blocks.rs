//! A device's blocks in the weight store, made from the model's source before a plan is loaded that needs them there.

use std::{panic::resume_unwind, path::Path, sync::mpsc, thread};

use lime_plan::{Block, Bytes, Encoding, PlacedBlock, Residency};
use lime_store::{BlockState, EnsureOptions, Ensured, PullProgress, Source, Store, StoredModel};

use crate::compute::ComputeError;

/// Unwinds out of a pull that nobody waits for any more; blocks that are half made are gone on with next time.
struct PullCutShort;

/// Makes those of the `placed` blocks that are not whole by sizes and headers, in that encoding, in the store at `root`: whoever loads them
/// compares the rest. `progress` hears of bytes that are there and in all, and
/// may unwind.
///
/// # Errors
/// What the store says.
pub(crate) fn ensure(
    root: &Path,
    model: &Source,
    placed: &[PlacedBlock],
    encoding: Encoding,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<StoredModel, ComputeError> {
    let store = Store::open(root)?;
    let stored = open(&store, model)?;
    make(&stored, placed, encoding, &[], progress)?;
    Ok(stored)
}

/// Makes those of the `placed` blocks of `stored` that are not whole, and says which they were; every byte of the `compared` ones is read for
/// that. `progress` hears of bytes that are there and in all, and may unwind.
///
/// # Errors
/// What the store says.
pub(crate) fn make(
    stored: &StoredModel,
    placed: &[PlacedBlock],
    encoding: Encoding,
    compared: &[Block],
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<Ensured, ComputeError> {
    let blocks: Vec<Block> = placed.iter().map(|placed| placed.block).collect();
    let streamed = PlacedBlock { block: Block::Embedding, residency: Residency::Streamed };
    let embedding_streams = placed.contains(&streamed);
    let options = EnsureOptions { embedding_streams, encoding, verify: compared, ..EnsureOptions::default() };
    let (steps, heard) = mpsc::channel();
    let ensured = thread::scope(|scope| {
        let pull = scope.spawn(|| {
            let mut listener = move |step: &PullProgress| {
                if steps.send((step.done, step.total)).is_err() {
                    resume_unwind(Box::new(PullCutShort));
                }
            };
            stored.ensure(&blocks, options, &mut listener)
        });
        // Moved in here, so that it is gone when `progress` unwinds.
        let heard = heard;
        heard.iter().for_each(|(done, total)| progress(done, total));
        pull.join()
    });
    match ensured {
        Ok(ensured) => Ok(ensured?),
        Err(payload) => resume_unwind(payload),
    }
}

/// Makes `block` anew, unless the disk gives all of it, whole, now.
///
/// # Errors
/// What the store says.
pub(crate) fn make_anew(
    stored: &StoredModel,
    block: Block,
    encoding: Encoding,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<Ensured, ComputeError> {
    // Whether it stays in memory only matters for a tied head beside the embedding, which has no file of its own to be damaged.
    let alone = PlacedBlock { block, residency: Residency::Streamed };
    make(stored, &[alone], encoding, &[block], progress)
}

/// Whether what is there of `block` can be told to be missing or wrong without reading its data.
pub(crate) fn is_wanting(stored: &StoredModel, block: Block) -> bool {
    matches!(stored.state(block), BlockState::Absent | BlockState::Partial(_) | BlockState::Damaged(_))
}

/// The model as its source has it; a server that cannot be asked does not keep a device from serving what it has.
fn open(store: &Store, model: &Source) -> Result<StoredModel, ComputeError> {
    let (stored, fault) = store.model_or_last(model)?;
    if let Some(fault) = fault {
        tracing::warn!(source = %model, %fault, "its source cannot be asked, the model that was fetched before is served");
    }
    Ok(stored)
}
