//! A stored model as the engine reads it: where its blocks lie, and whether what was read is what was written.

use std::{io, path::PathBuf};

use lime_model::{BlockFile, BlockFiles, BlockLayout};
use lime_plan::Block;

use crate::{
    digest::Digest,
    error::StoreError,
    model::StoredModel,
    part::Part,
    state::{BlockState, header_bytes},
    verify::verify,
};

impl StoredModel {
    /// The file that holds `block` as `layout` wants it.
    fn part_for(&self, block: Block, layout: &BlockLayout) -> Result<Part, StoreError> {
        let config = self.folder().config();
        if *layout == Part::Whole(block).layout(config) {
            return Ok(Part::Whole(block));
        }
        if *layout == Part::Compact(block).layout(config) {
            return Ok(Part::Compact(block));
        }
        if block == Block::Head && *layout == Part::HeadNorm.layout(config) {
            // The norm is also the beginning of a whole head.
            let alone = self.is_whole(Part::HeadNorm) || !self.is_whole(Part::Whole(block));
            return Ok(if alone { Part::HeadNorm } else { Part::Whole(block) });
        }
        let reason = format!("the layout asked for block {block} is not one of this model");
        Err(StoreError::Damaged { path: self.path().to_owned(), reason })
    }

    /// The part for `layout` if it is whole, its path and its digest.
    fn find(&self, block: Block, layout: &BlockLayout) -> Result<(Part, PathBuf, Digest), StoreError> {
        let part = self.part_for(block, layout)?;
        let path = self.names(part).whole;
        match self.look(part) {
            BlockState::Whole(digest) => Ok((part, path, digest)),
            BlockState::Damaged(reason) | BlockState::Unreadable(reason) => {
                Err(StoreError::Damaged { path, reason: format!("block {block} {reason}") })
            }
            BlockState::Absent | BlockState::Partial(_) => {
                Err(StoreError::Missing { block: block.to_string(), model: self.manifest().name.clone() })
            }
        }
    }
}

impl BlockFiles for StoredModel {
    fn locate(&self, block: Block, layout: &BlockLayout) -> io::Result<BlockFile> {
        let (part, path, _) = self.find(block, layout).map_err(io::Error::other)?;
        let whole = part.layout(self.folder().config());
        Ok(BlockFile { path, offset: header_bytes(self.key(), part, &whole), bytes: whole.bytes })
    }

    fn digest(&self, chunk: &[u8]) -> u128 {
        Digest::of_chunk(chunk).0
    }

    fn check(&self, block: Block, layout: &BlockLayout, digests: &[u128]) -> io::Result<()> {
        let found = Digest::of_block(digests.iter().copied().map(Digest));
        if self.known.get(block, layout) == Some(found) {
            return Ok(());
        }
        let (part, path, expected) = self.find(block, layout).map_err(io::Error::other)?;
        let whole = part.layout(self.folder().config());
        if whole.bytes != layout.bytes {
            // Only the beginning was read, and the digest is of all of it.
            return match verify(self, &[part], &|_, _| {}).map_err(io::Error::other)?.pop() {
                Some((_, state)) => {
                    let reason = state.fault().unwrap_or_default().to_owned();
                    Err(io::Error::other(StoreError::Damaged { path, reason }))
                }
                None => {
                    self.known.set(block, layout, found);
                    Ok(())
                }
            };
        }
        if found == expected {
            self.known.set(block, layout, found);
            return Ok(());
        }
        let reason = format!(
            "block {block} was read with the digest {found}, its header says {expected}: a bit has flipped; `lime store verify --repair` makes it again"
        );
        Err(io::Error::other(StoreError::Damaged { path, reason }))
    }
}
