//! Blocks in memory compared with what they were read from: memory has faults as disks have.

use std::{io, sync::Arc};

use lime_plan::Block;

use super::Resident;
use crate::{
    engine_error::EngineError,
    read_from::ReadFrom,
    stream::read_pinned,
    weights::{BlockSource as _, HostBlock, HostMemory},
};
use lime_model::BlockLayout;

/// What comparing blocks in memory found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks that were compared.
    pub compared: u32,
    /// Of them, blocks that were others and were read again.
    pub read_again: u32,
}

impl Resident {
    /// Compares the blocks that are kept with the store that they came from, and reads those again that differ. What streams is read
    /// anew, from files that may be others. No pass holds a block.
    ///
    /// # Errors
    /// When a block that differs cannot be read: passes that meet it fail until it can.
    pub(super) fn verify_kept(&mut self) -> Result<Verified, EngineError> {
        let mut verified = Verified::default();
        if let Some(from) = self.read_from.clone() {
            let kept: Vec<(Block, usize)> = self
                .starts
                .iter()
                .map(|(block, start)| (*block, *start))
                .filter(|(_, start)| *start < self.end)
                .collect();
            for (block, start) in kept {
                verified.compared += 1;
                verified.read_again += u32::from(self.mend_kept(block, start, &from)?);
            }
        }
        if let Some(stream) = &self.stream {
            stream.renew();
        }
        Ok(verified)
    }

    /// Whether `block`, which is kept from `start` of the arena on, had to be read again.
    fn mend_kept(&mut self, block: Block, start: usize, from: &ReadFrom) -> Result<bool, EngineError> {
        let layout = match self.pinned.block(block) {
            Ok(held) => match from.store.check_bytes(block, &held.layout, held.memory.bytes()) {
                Ok(()) => return Ok(false),
                Err(fault) => {
                    tracing::warn!(%block, %fault, "a block in memory is not what was read into it, it is read again");
                    held.layout
                }
            },
            Err(fault) => self.lost.get(&block).cloned().ok_or(fault)?,
        };
        self.pinned.forget(block);
        self.lost.insert(block, Arc::clone(&layout));
        self.read_kept(block, start, &layout, from)?;
        self.lost.remove(&block);
        Ok(true)
    }

    fn read_kept(
        &mut self,
        block: Block,
        start: usize,
        layout: &Arc<BlockLayout>,
        from: &ReadFrom,
    ) -> Result<(), EngineError> {
        let file = from.locate(block, layout)?;
        let bytes = layout.bytes as usize;
        let mut room = self.arena.write(start, bytes).ok_or(EngineError::NotHere { block })?;
        from.reader.forget(&file);
        let files = [(block, file, layout.as_ref())];
        read_pinned(&files, &mut room, from.store.as_ref(), from.reader.as_ref(), None, &mut |_, _| {})?;
        drop(room);
        let held = self.arena.read(start, bytes).ok_or(EngineError::NotHere { block })?;
        let memory = HostMemory::Pinned(Arc::new(held));
        self.pinned.keep(block, HostBlock { memory, layout: Arc::clone(layout) });
        Ok(())
    }

    /// Why `block` is not in memory, where it should be.
    pub(super) fn missed(&self, block: Block, fault: EngineError) -> EngineError {
        if self.lost.contains_key(&block) {
            let source = io::Error::other("its memory is damaged, and it could not be read again");
            return EngineError::NotStored { block, source };
        }
        fault
    }
}
