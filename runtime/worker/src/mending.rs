//! Stored blocks of a device that turn out damaged or unreadable while it serves: what it computes with is compared and mended at once.

use std::{collections::BTreeSet, io, sync::Arc};

use lime_engine::{Engine, EngineError, Verified};
use lime_plan::{Block, Encoding, PlacedBlock};
use lime_store::StoredModel;

use crate::{
    blocks,
    compute::{ComputeError, Mended},
    failure::Failure,
};

/// What it takes to make a device's stored blocks again.
pub(crate) struct Mending {
    stored: Arc<StoredModel>,
    placed: Vec<PlacedBlock>,
    encoding: Encoding,
    /// Blocks that failed one pass because they could not be read, and were not looked at since.
    unread: BTreeSet<Block>,
    /// All blocks were compared, and nothing was computed since.
    is_fresh: bool,
    /// Blocks that were mended and of which nobody has been told.
    mended: u32,
}

impl Mending {
    pub(crate) fn new(stored: Arc<StoredModel>, placed: Vec<PlacedBlock>, encoding: Encoding) -> Self {
        Self { stored, placed, encoding, unread: BTreeSet::new(), is_fresh: false, mended: 0 }
    }

    /// Blocks are computed with: what was compared before says nothing any more.
    pub(crate) fn used(&mut self) {
        self.is_fresh = false;
    }

    /// Sees to what failed a pass. One damaged block is seldom the only one, and passes meet one after the other: all that they
    /// meet are compared and mended, once. Gives what is known of the fault then: a disk that gives too little of a file which is whole is a disk at fault, and
    /// there is nothing to mend.
    pub(crate) fn after(&mut self, error: &EngineError, engine: &mut Engine) -> Option<Failure> {
        match error {
            EngineError::NotStored { block, source } => {
                self.mend_all(*block, source, engine);
                Some(Failure::Damaged { block: Some(*block) })
            }
            EngineError::Stream { block, source, .. } if blocks::is_wanting(&self.stored, *block) => {
                self.mend_all(*block, source, engine);
                Some(Failure::Damaged { block: Some(*block) })
            }
            EngineError::Stream { block, .. } => {
                self.unreadable(*block);
                Some(Failure::Unspecified)
            }
            _ => None,
        }
    }

    fn mend_all(&mut self, block: Block, fault: &io::Error, engine: &mut Engine) {
        tracing::warn!(%block, %fault, "a stored block is damaged: what this device computes with is compared, and made again where it differs");
        match self.compare(engine) {
            Ok(()) => tracing::info!(mended = self.mended, "the blocks are whole"),
            Err(error) => tracing::error!(%error, "a block could not be made again"),
        }
    }

    /// The disk did not give `block`, whose file looks whole. It has a second pass, for disks that were away for a moment; then it is made
    /// anew beside what is there: sectors that cannot be read stay so until they are written. The others are left alone: a disk
    /// that is away would have all of them made anew.
    fn unreadable(&mut self, block: Block) {
        if self.unread.insert(block) {
            return;
        }
        self.unread.remove(&block);
        tracing::warn!(%block, "a stored block cannot be read, it is made anew unless it can now");
        match blocks::make_anew(&self.stored, block, self.encoding, &mut |_, _| {}) {
            Ok(made) => {
                self.mended += made.made.len() as u32;
                tracing::info!(%block, "the block is whole again");
            }
            Err(error) => tracing::error!(%block, %error, "the block could not be made again"),
        }
    }

    /// Compares every block with its digest where passes find it, and mends what differs; also says what was mended since this was
    /// last asked.
    ///
    /// # Errors
    /// When a block cannot be made again: its source is away, or the disk full.
    pub(crate) fn verify(&mut self, engine: &mut Engine) -> Result<Mended, ComputeError> {
        if !self.is_fresh {
            self.compare(engine)?;
        }
        let compared = self.placed.len() as u32;
        Ok(Mended { compared, mended: std::mem::take(&mut self.mended) })
    }

    /// What passes read is compared on the disk, which takes about as long as a pass; what they find in memory is compared there, and its
    /// file is read only where memory differs. Files that nobody reads until the next start are compared then.
    fn compare(&mut self, engine: &mut Engine) -> Result<(), ComputeError> {
        let all = self.placed.iter().map(|placed| placed.block);
        let read: Vec<Block> = all.filter(|block| !engine.keeps(*block)).collect();
        self.make(&read)?;
        let mut remade = BTreeSet::new();
        let Verified { read_again, .. } = loop {
            match engine.verify() {
                // Memory and file are both damaged. Once for each block: one that comes out wrong again has another cause.
                Err(EngineError::NotStored { block, .. } | EngineError::Stream { block, .. })
                    if remade.insert(block) =>
                {
                    self.make(&[block])?;
                }
                verified => break verified?,
            }
        };
        self.mended += read_again;
        self.is_fresh = true;
        Ok(())
    }

    /// Makes what is not whole of this device's blocks, of which the `compared` ones are read for that.
    fn make(&mut self, compared: &[Block]) -> Result<(), ComputeError> {
        let made = blocks::make(&self.stored, &self.placed, self.encoding, compared, &mut |_, _| {})?;
        for (block, reason) in &made.repaired {
            tracing::warn!(%block, reason, "a stored block was damaged, it was made again");
        }
        self.mended += made.made.len() as u32;
        Ok(())
    }
}
