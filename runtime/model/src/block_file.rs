//! Where a block lies on a device's disk: the seam between the weight store, which writes blocks, and the loader, which reads them.

use std::{io, path::PathBuf};

use lime_plan::Block;

use crate::layout::BlockLayout;

/// Blocks are read and compared with their digests in chunks of so many bytes.
pub const DIGEST_CHUNK: usize = 4 << 20;

/// A block on disk, ready for direct reads: its bytes lie exactly as [`BlockLayout`] says, and whole pages are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFile {
    /// The file.
    pub path: PathBuf,
    /// Where the block begins, a multiple of [`crate::BLOCK_ALIGNMENT`].
    pub offset: u64,
    /// Its size, padding counted, a multiple of [`crate::BLOCK_ALIGNMENT`]; at least the size of the layout that was asked for.
    pub bytes: u64,
}

/// Finds the blocks of one model on this device.
pub trait BlockFiles: Send + Sync {
    /// The file with `block`, whose first bytes lie as `layout` says.
    ///
    /// # Errors
    /// When the block is not there whole: the error names it and the cause.
    fn locate(&self, block: Block, layout: &BlockLayout) -> io::Result<BlockFile>;

    /// The digest of a chunk of a block: of [`DIGEST_CHUNK`] bytes, or fewer at its end. Called by the threads that read, as
    /// chunks come.
    fn digest(&self, chunk: &[u8]) -> u128 {
        let _ = chunk;
        0
    }

    /// Compares the digests of the chunks of `block`, in order, as they were read from [`BlockFiles::locate`]'s file for `layout`,
    /// with what was recorded when the block was made. Without a record, all bytes are right.
    ///
    /// # Errors
    /// When they differ: a bit has flipped on the disk or on the way from it. The block must not be used.
    fn check(&self, block: Block, layout: &BlockLayout, digests: &[u128]) -> io::Result<()> {
        let _ = (block, layout, digests);
        Ok(())
    }

    /// As [`BlockFiles::check`] of a block's bytes.
    ///
    /// # Errors
    /// As [`BlockFiles::check`].
    fn check_bytes(&self, block: Block, layout: &BlockLayout, bytes: &[u8]) -> io::Result<()> {
        let digests: Vec<u128> = bytes.chunks(DIGEST_CHUNK).map(|chunk| self.digest(chunk)).collect();
        self.check(block, layout, &digests)
    }
}
