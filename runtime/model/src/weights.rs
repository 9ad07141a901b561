//! Weight blocks in memory, and where a pass finds them.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use lime_kernels::{AlignedBuf, Matrix, decode};
use lime_planner::{Block, Bytes, PlacedBlock, Residency};

use crate::{
    BlockLayout, EngineError, LayoutEntry, ModelConfig, ModelFolder, TensorRole,
    activation::element_type,
    loader::{LoadOptions, Piece, load},
};

/// A block's bytes in host memory, used in place by the kernels. Cloning it copies no weights.
#[derive(Clone, Debug)]
pub(crate) struct HostBlock {
    buffer: Arc<AlignedBuf>,
    start: usize,
    layout: Arc<BlockLayout>,
}

impl HostBlock {
    /// The entry for `role`, where the block has one.
    pub(crate) fn entry(&self, role: TensorRole) -> Option<&LayoutEntry> {
        self.layout.entry(role)
    }

    /// Every tensor of the block.
    pub(crate) fn entries(&self) -> &[LayoutEntry] {
        &self.layout.entries
    }

    /// The stored bytes of a tensor.
    pub(crate) fn bytes(&self, entry: &LayoutEntry) -> &[u8] {
        let start = self.start + entry.offset as usize;
        &self.buffer[start..start + entry.bytes as usize]
    }

    /// The matrix for `role`.
    ///
    /// # Panics
    /// When the block has none: layers ask for what their layout has.
    pub(crate) fn matrix(&self, role: TensorRole) -> Matrix<'_> {
        let entry = self.entry(role).expect("a layer asks its own block");
        let (out_features, in_features) = (entry.shape[0], entry.shape[1]);
        let matrix = Matrix::new(self.bytes(entry), element_type(entry.dtype), out_features, in_features);
        matrix.expect("the folder checked every shape against the config")
    }

    /// The vector for `role` in f32, written to the front of `into`.
    ///
    /// # Panics
    /// When the block has none, or `into` is too small.
    pub(crate) fn vector<'a>(&self, role: TensorRole, into: &'a mut [f32]) -> &'a [f32] {
        let entry = self.entry(role).expect("a layer asks its own block");
        let into = &mut into[..entry.shape[0]];
        decode(element_type(entry.dtype), self.bytes(entry), into);
        into
    }
}

/// Where a pass finds its blocks: the seam between layers and residency.
///
/// Pinned blocks are there at once. A loader that streams blocks through a ring of buffers implements this by waiting for the
/// block that the pass needs next; dropping what it returned gives the buffer back.
pub(crate) trait BlockSource {
    /// What a backend computes with.
    type Weights;

    /// The weights of `block`, to be dropped when the pass is done with them.
    ///
    /// # Errors
    /// When this device does not hold the block.
    fn block(&mut self, block: Block) -> Result<Self::Weights, EngineError>;
}

/// Blocks that stay in memory.
#[derive(Debug)]
pub(crate) struct Pinned<W> {
    blocks: BTreeMap<Block, W>,
}

impl<W> FromIterator<(Block, W)> for Pinned<W> {
    fn from_iter<I: IntoIterator<Item = (Block, W)>>(blocks: I) -> Self {
        Self { blocks: blocks.into_iter().collect() }
    }
}

impl<W: Clone> BlockSource for Pinned<W> {
    type Weights = W;

    fn block(&mut self, block: Block) -> Result<W, EngineError> {
        self.blocks.get(&block).cloned().ok_or(EngineError::NotHere { block })
    }
}

/// The layout of each placed block, a tied head beside its embedding without the matrix.
pub(crate) fn layouts(config: &ModelConfig, blocks: &[PlacedBlock]) -> Result<Vec<(Block, BlockLayout)>, EngineError> {
    if let Some(placed) = blocks.iter().find(|placed| placed.residency == Residency::Streamed) {
        return Err(EngineError::Streamed { block: placed.block });
    }
    let embedding = blocks.iter().any(|placed| placed.block == Block::Embedding);
    let layout = |block| match block {
        Block::Head if config.tied && embedding => BlockLayout::head_beside_embedding(config),
        block => BlockLayout::of(config, block),
    };
    Ok(blocks.iter().map(|placed| (placed.block, layout(placed.block))).collect())
}

/// Reads the blocks into one arena, in order. Returns them with the arena's size.
pub(crate) fn load_arena(
    folder: &ModelFolder,
    layouts: Vec<(Block, BlockLayout)>,
    options: LoadOptions,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<(Vec<(Block, HostBlock)>, Bytes), EngineError> {
    let size: u64 = layouts.iter().map(|(_, layout)| layout.bytes).sum();
    let mut buffer = AlignedBuf::new(size as usize)?;
    load(pieces(folder, &layouts, &mut buffer)?, options, progress)?;

    let buffer = Arc::new(buffer);
    let mut start = 0;
    let blocks = layouts.into_iter().map(|(block, layout)| {
        let held = HostBlock { buffer: Arc::clone(&buffer), start, layout: Arc::new(layout) };
        start += held.layout.bytes as usize;
        (block, held)
    });
    Ok((blocks.collect(), Bytes(size)))
}

/// Reads the blocks one after the other, and keeps what `upload` makes of each. Returns them with their sizes' sum.
pub(crate) fn load_each<W>(
    folder: &ModelFolder,
    layouts: Vec<(Block, BlockLayout)>,
    options: LoadOptions,
    progress: &mut dyn FnMut(Bytes, Bytes),
    upload: impl Fn(&HostBlock) -> Result<W, EngineError>,
) -> Result<(Vec<(Block, W)>, Bytes), EngineError> {
    let stored = |layout: &BlockLayout| layout.entries.iter().map(|entry| Bytes(entry.bytes)).sum::<Bytes>();
    let total: Bytes = layouts.iter().map(|(_, layout)| stored(layout)).sum();
    let (mut before, mut size, mut blocks) = (Bytes::ZERO, Bytes::ZERO, Vec::with_capacity(layouts.len()));
    for (block, layout) in layouts {
        let here = stored(&layout);
        let mut report = |loaded, _| progress(before + loaded, total);
        let (host, padded) = load_arena(folder, vec![(block, layout)], options, &mut report)?;
        for (block, host) in &host {
            blocks.push((*block, upload(host)?));
        }
        (before, size) = (before + here, size + padded);
    }
    Ok((blocks, size))
}

/// What to read from where into which part of `arena`, in the order of the layouts.
fn pieces<'a>(
    folder: &ModelFolder,
    layouts: &[(Block, BlockLayout)],
    arena: &'a mut [u8],
) -> Result<Vec<Piece<'a>>, EngineError> {
    let mut pieces = Vec::new();
    let (mut rest, mut consumed, mut base) = (arena, 0, 0);
    for (block, layout) in layouts {
        for tensor in folder.tensors(*block)? {
            let Some(entry) = layout.entry(tensor.role) else { continue };
            let range = within(base, entry);
            let (taken, behind) = std::mem::take(&mut rest).split_at_mut(range.end - consumed);
            let into = &mut taken[range.start - consumed..];
            (rest, consumed) = (behind, range.end);
            pieces.push(Piece { tensor, into });
        }
        base += layout.bytes as usize;
    }
    Ok(pieces)
}

const fn within(base: usize, entry: &LayoutEntry) -> Range<usize> {
    let start = base + entry.offset as usize;
    start..start + entry.bytes as usize
}
