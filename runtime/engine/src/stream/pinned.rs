//! Blocks that stay in memory, read and compared as they come.

use std::io;

use lime_plan::{Block, Bytes};

use super::reader::{self, BlockReader};
use crate::{
    engine_error::EngineError,
    loader::{DIGESTING_READERS, in_parallel},
    rate_limit::RateLimit,
};
use lime_model::{BlockFile, BlockFiles, BlockLayout, DIGEST_CHUNK};

/// Reads whole blocks, each to its place in memory that lies as the blocks do, and compares them with their digests, which are
/// taken as the chunks come. `progress` hears of bytes read and in all.
///
/// # Errors
/// The first block that could not be read, or is damaged.
pub(crate) fn read_pinned(
    blocks: &[(Block, BlockFile, &BlockLayout)],
    into: &mut [u8],
    store: &dyn BlockFiles,
    reader: &dyn BlockReader,
    bytes_per_second: Option<u64>,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<(), EngineError> {
    let mut rest = into;
    let mut requests = Vec::new();
    let counts = blocks.iter().map(|(.., layout)| layout.bytes.div_ceil(DIGEST_CHUNK as u64));
    let mut digests: Vec<Vec<u128>> = counts.map(|count| vec![0; count as usize]).collect();
    for (index, ((.., layout), digests)) in blocks.iter().zip(&mut digests).enumerate() {
        let (here, behind) = std::mem::take(&mut rest).split_at_mut(layout.bytes as usize);
        rest = behind;
        let pieces = here.chunks_mut(DIGEST_CHUNK).zip(digests).enumerate();
        requests.extend(pieces.map(|(piece, (into, digest))| (index, (piece * DIGEST_CHUNK) as u64, into, digest)));
    }
    let limit = bytes_per_second.map(RateLimit::new);
    in_parallel(
        DIGESTING_READERS,
        requests,
        progress,
        |(_, _, into, _)| into.len(),
        |(index, offset, into, digest)| {
            let (block, file, _) = &blocks[index];
            if let Some(limit) = &limit {
                limit.wait(into.len() as u64);
            }
            let again = |fault: &io::Error| {
                tracing::warn!(path = %file.path.display(), offset, %fault, "a read failed, it is tried again");
            };
            let read = reader::read_all(reader, file, offset, into, again);
            read.map_err(|source| EngineError::Stream { block: *block, path: file.path.clone(), source })?;
            *digest = store.digest(into);
            Ok(())
        },
    )?;
    blocks.iter().zip(&digests).try_for_each(|((block, _, layout), digests)| {
        store.check(*block, layout, digests).map_err(|source| EngineError::NotStored { block: *block, source })
    })
}
