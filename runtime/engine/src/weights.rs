//! Weight blocks in memory, and where a pass finds them.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use lime_kernels::{Matrix, RingBuf, RingRead, decode};
use lime_plan::{Block, Bytes, PlacedBlock, Residency};

use crate::{
    engine_error::EngineError,
    loader::{LoadOptions, Piece, load},
    read_from::ReadFrom,
    stream::{BlockReader, DirectReader, Lease, read_pinned},
};
use lime_model::{BlockFiles, BlockLayout, LayoutEntry, ModelConfig, ModelFolder, TensorRole};

/// Where an engine's weights come from: a model's folder, and a weight store where blocks are to be streamed.
#[derive(Clone)]
pub struct WeightSource<'a> {
    pub(crate) folder: &'a ModelFolder,
    pub(crate) store: Option<Arc<dyn BlockFiles>>,
    pub(crate) reader: Arc<dyn BlockReader>,
}

impl<'a> WeightSource<'a> {
    /// Everything from `store`, past the page cache; the folder gives the config alone.
    pub fn stored(folder: &'a ModelFolder, store: Arc<dyn BlockFiles>) -> Self {
        Self { store: Some(store), ..Self::from(folder) }
    }

    /// Reads the store's files by `reader`.
    #[must_use]
    pub fn read_by(self, reader: Arc<dyn BlockReader>) -> Self {
        Self { reader, ..self }
    }

    /// The store, where blocks come from one: it has their digests.
    pub(crate) fn read_from(&self) -> Option<ReadFrom> {
        self.store.clone().map(|store| ReadFrom { store, reader: Arc::clone(&self.reader) })
    }
}

/// Weights from the folder: such an engine pins every block.
impl<'a> From<&'a ModelFolder> for WeightSource<'a> {
    fn from(folder: &'a ModelFolder) -> Self {
        Self { folder, store: None, reader: Arc::new(DirectReader::default()) }
    }
}

impl fmt::Debug for WeightSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightSource").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}

/// A block's bytes in host memory, used in place by the kernels. Cloning it copies no weights.
#[derive(Clone, Debug)]
pub(crate) struct HostBlock {
    pub(crate) memory: HostMemory,
    pub(crate) layout: Arc<BlockLayout>,
}

#[derive(Clone, Debug)]
pub(crate) enum HostMemory {
    /// Its part of the arena.
    Pinned(Arc<RingRead>),
    /// In the buffer of a stream, until the last clone is dropped.
    Streamed(Arc<Lease>),
}

impl HostMemory {
    /// All bytes of the block, as they lie on the disk.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Pinned(held) => held,
            Self::Streamed(lease) => lease.bytes(),
        }
    }
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
        &self.memory.bytes()[within(0, entry)]
    }

    /// The matrix for `role`.
    ///
    /// # Panics
    /// When the block has none: layers ask for what their layout has.
    pub(crate) fn matrix(&self, role: TensorRole) -> Matrix<'_> {
        let entry = self.entry(role).expect("a layer asks its own block");
        let (out_features, in_features) = (entry.shape[0], entry.shape[1]);
        let bytes = self.bytes(entry);
        let matrix = Matrix::new(bytes, entry.format, out_features, in_features);
        matrix.expect("the folder checked every shape against the config")
    }

    /// The vector for `role` in f32, written to the front of `into`.
    ///
    /// # Panics
    /// When the block has none, or `into` is too small.
    pub(crate) fn vector<'a>(&self, role: TensorRole, into: &'a mut [f32]) -> &'a [f32] {
        let entry = self.entry(role).expect("a layer asks its own block");
        let into = &mut into[..entry.shape[0]];
        let dtype = entry.format.element().expect("the folder refused vectors of other formats");
        decode(dtype, self.bytes(entry), into);
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

impl<W> Pinned<W> {
    pub(crate) fn keep(&mut self, block: Block, weights: W) {
        self.blocks.insert(block, weights);
    }

    pub(crate) fn forget(&mut self, block: Block) {
        self.blocks.remove(&block);
    }
}

impl<W: Clone> BlockSource for Pinned<W> {
    type Weights = W;

    fn block(&mut self, block: Block) -> Result<W, EngineError> {
        self.blocks.get(&block).cloned().ok_or(EngineError::NotHere { block })
    }
}

/// The layouts of a device's blocks: those that stay, and those that stream. A tied head leaves its matrix to an embedding that
/// stays beside it.
pub(crate) struct Layouts {
    pub(crate) pinned: Vec<(Block, BlockLayout)>,
    pub(crate) streamed: Vec<(Block, BlockLayout)>,
}

impl Layouts {
    pub(crate) fn of(config: &ModelConfig, blocks: &[PlacedBlock]) -> Self {
        let embedding = blocks.contains(&PlacedBlock { block: Block::Embedding, residency: Residency::Pinned });
        let layout = |block| match block {
            Block::Head if config.tied && embedding => BlockLayout::head_beside_embedding(config),
            block => BlockLayout::of(config, block),
        };
        let of = |residency| {
            let placed = blocks.iter().filter(move |placed| placed.residency == residency);
            placed.map(|placed| (placed.block, layout(placed.block))).collect()
        };
        Self { pinned: of(Residency::Pinned), streamed: of(Residency::Streamed) }
    }
}

/// Blocks as they lie in one arena.
pub(crate) struct LoadedBlocks {
    pub(crate) blocks: Vec<(Block, HostBlock)>,
    pub(crate) arena: Arc<RingBuf>,
}

/// Reads the blocks into one arena, in order: from the store where there is one, else from the folder.
pub(crate) fn load_pinned(
    source: &WeightSource<'_>,
    layouts: Vec<(Block, BlockLayout)>,
    options: LoadOptions,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<LoadedBlocks, EngineError> {
    match source.read_from() {
        Some(from) => load_stored(&from, layouts, options, progress),
        None => load_arena(source.folder, layouts, options, progress),
    }
}

/// Reads the blocks from a store into one arena, in order, and compares them with their digests.
pub(crate) fn load_stored(
    from: &ReadFrom,
    layouts: Vec<(Block, BlockLayout)>,
    options: LoadOptions,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<LoadedBlocks, EngineError> {
    let mut files = Vec::with_capacity(layouts.len());
    for (block, layout) in &layouts {
        files.push((*block, from.locate(*block, layout)?, layout));
    }
    let arena = RingBuf::plain(files.iter().map(|(.., layout)| layout.bytes as usize).sum())?;
    let mut whole = arena.write(0, arena.len());
    let into = whole.as_deref_mut().unwrap_or_default();
    read_pinned(&files, into, from.store.as_ref(), from.reader.as_ref(), options.bytes_per_second, progress)?;
    drop(whole);
    Ok(cut(arena, layouts))
}

/// Reads the blocks into one arena, in order.
pub(crate) fn load_arena(
    folder: &ModelFolder,
    layouts: Vec<(Block, BlockLayout)>,
    options: LoadOptions,
    progress: &mut dyn FnMut(Bytes, Bytes),
) -> Result<LoadedBlocks, EngineError> {
    let size: u64 = layouts.iter().map(|(_, layout)| layout.bytes).sum();
    let arena = RingBuf::plain(size as usize)?;
    let mut whole = arena.write(0, arena.len());
    load(pieces(folder, &layouts, whole.as_deref_mut().unwrap_or_default())?, options, progress)?;
    drop(whole);
    Ok(cut(arena, layouts))
}

/// An arena's blocks.
fn cut(arena: Arc<RingBuf>, layouts: Vec<(Block, BlockLayout)>) -> LoadedBlocks {
    let mut start = 0;
    let blocks = layouts.into_iter().map(|(block, layout)| {
        let bytes = layout.bytes as usize;
        let held = arena.read(start, bytes).expect("blocks lie in the arena that was made for them, and nobody writes");
        start += bytes;
        (block, HostBlock { memory: HostMemory::Pinned(Arc::new(held)), layout: Arc::new(layout) })
    });
    let blocks = blocks.collect();
    LoadedBlocks { blocks, arena }
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
