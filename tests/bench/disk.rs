//! The disk as a yardstick: the same blocks, read by the same direct reads as the loader's, and nothing else.

use std::{sync::Arc, thread, time::Instant};

use anyhow::{Result, ensure};
use lime_engine::{BlockReader, DirectReader};
use lime_model::{BlockFile, BlockFiles as _, BlockLayout};
use lime_plan::{Block, Encoding};
use lime_store::StoredModel;

/// One read, and threads that read at once: as the loader has them.
const PIECE: usize = 4 << 20;
const READERS: usize = 4;

/// Blocks of the store in the order in which they are to be read.
pub(crate) struct Reading {
    reader: Arc<DirectReader>,
    pieces: Arc<Vec<(BlockFile, u64)>>,
}

impl Reading {
    /// Whole pieces of `blocks`; the odd ends are left out.
    pub(crate) fn of(stored: &StoredModel, blocks: &[Block], encoding: Encoding) -> Result<Self> {
        let mut pieces = Vec::new();
        for &block in blocks {
            let layout = BlockLayout::of(&stored.folder().config().encoded(encoding), block);
            let file = stored.locate(block, &layout)?;
            pieces.extend((0..layout.bytes / PIECE as u64).map(|piece| (file.clone(), piece * PIECE as u64)));
        }
        ensure!(!pieces.is_empty(), "no block is large enough to measure the disk with");
        Ok(Self { reader: Arc::default(), pieces: Arc::new(pieces) })
    }

    /// Bytes per second of reading everything once.
    pub(crate) fn bandwidth(&self) -> Result<f64> {
        let begin = Instant::now();
        let threads = (0..READERS).map(|first| {
            let (reader, pieces) = (Arc::clone(&self.reader), Arc::clone(&self.pieces));
            thread::spawn(move || -> Result<()> {
                let mut into = lime_kernels::AlignedBuf::new(PIECE)?;
                for (file, offset) in pieces.iter().skip(first).step_by(READERS) {
                    let count = reader.read(file, *offset, &mut into)?;
                    ensure!(count == PIECE, "a short read of {}", file.path.display());
                }
                Ok(())
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().map_err(|_| anyhow::anyhow!("a reading thread panicked"))??;
        }
        Ok((self.pieces.len() * PIECE) as f64 / begin.elapsed().as_secs_f64())
    }
}
