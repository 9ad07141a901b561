//! Reading blocks to see that every bit is as it was written.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use lime_plan::{Block, Bytes};

use crate::{
    digest::{BlockHasher, Digest},
    disk::{self, DiskReader},
    error::StoreError,
    model::StoredModel,
    part::Part,
    state::{BlockState, header_bytes},
};

const READERS: usize = 4;

impl StoredModel {
    /// Reads those of `blocks` that are there past the page cache, and gives back the damaged ones with what is wrong. `report`
    /// hears of every block that was read, with its size.
    ///
    /// # Errors
    /// When reading is not possible at all; a block that cannot be read is damaged.
    pub fn verify(
        &self,
        blocks: &[Block],
        report: &(dyn Fn(Block, Bytes) + Sync),
    ) -> Result<Vec<(Block, String)>, StoreError> {
        let config = self.folder().config();
        let parts: Vec<Part> = Part::all(config).into_iter().filter(|part| blocks.contains(&part.block())).collect();
        let found = verify(self, &parts, &|part, state| {
            if *state != BlockState::Absent {
                report(part.block(), Bytes(part.layout(config).bytes));
            }
        })?;
        let reason = |state: BlockState| state.fault().unwrap_or_default().to_owned();
        Ok(found.into_iter().map(|(part, state)| (part.block(), reason(state))).collect())
    }
}

/// Reads every one of `parts` that is there, several at once and past the page cache, and gives back those that are damaged or
/// cannot be read. Every part is reported when it has been read.
pub(crate) fn verify(
    model: &StoredModel,
    parts: &[Part],
    report: &(dyn Fn(Part, &BlockState) + Sync),
) -> Result<Vec<(Part, BlockState)>, StoreError> {
    let queue = Mutex::new(parts.iter());
    let found = Mutex::new((Vec::new(), None));
    let read_all = || {
        let mut reader = DiskReader::new();
        loop {
            let Some(part) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
            let state = examine(model, *part, &mut reader);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match state {
                Ok(state) => {
                    report(*part, &state);
                    if state.fault().is_some() {
                        found.0.push((*part, state));
                    }
                }
                Err(fault) => found.1 = Some(fault),
            }
        }
    };
    thread::scope(|scope| (0..READERS.min(parts.len())).for_each(|_| drop(scope.spawn(read_all))));
    let (mut damaged, fault) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    damaged.sort_by_key(|(part, _)| *part);
    fault.map_or(Ok(damaged), Err)
}

/// The state of one part, its data read too.
fn examine(model: &StoredModel, part: Part, reader: &mut DiskReader) -> Result<BlockState, StoreError> {
    let state = model.look(part);
    let BlockState::Whole(expected) = state else { return Ok(state) };
    Ok(match disk::patiently(|| digest(model, part, reader)) {
        Ok(found) if found == expected => state,
        Ok(found) => BlockState::Damaged(format!("its data has the digest {found}, its header says {expected}")),
        Err(StoreError::Io { source, .. }) => BlockState::Unreadable(format!("cannot be read: {source}")),
        Err(fault) => return Err(fault),
    })
}

fn digest(model: &StoredModel, part: Part, reader: &mut DiskReader) -> Result<Digest, StoreError> {
    let layout = part.layout(model.folder().config());
    let start = header_bytes(model.key(), part, &layout);
    let mut hasher = BlockHasher::new();
    reader.read(&model.names(part).whole, start, layout.bytes, &mut |chunk| hasher.update(chunk))?;
    Ok(hasher.finish())
}
