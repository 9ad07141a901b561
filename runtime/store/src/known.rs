//! The digests of blocks that were read and right: whoever reads a block for every pass need not open its file to compare it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use lime_model::BlockLayout;
use lime_plan::Block;

use crate::digest::Digest;

/// What the bytes of a block must hash to, by the layout that they are read in: a file's header said so, and bytes agreed. It stays true
/// for as long as the model is the same, whatever becomes of the file.
#[derive(Debug, Default)]
pub(crate) struct KnownDigests(Mutex<BTreeMap<Block, Vec<(BlockLayout, Digest)>>>);

impl KnownDigests {
    pub(crate) fn get(&self, block: Block, layout: &BlockLayout) -> Option<Digest> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&block)?.iter().find(|(of, _)| of == layout).map(|(_, digest)| *digest)
    }

    pub(crate) fn set(&self, block: Block, layout: &BlockLayout, digest: Digest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(block).or_default();
        known.retain(|(of, _)| of != layout);
        known.push((layout.clone(), digest));
    }
}
