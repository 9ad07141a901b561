//! What one file of the store holds: a block, or the part of the head that a device needs beside the embedding.

use lime_model::{BlockLayout, ModelConfig};
use lime_plan::{Block, Encoding, LayerIndex};

/// One file of a model in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// A block as [`BlockLayout::of`] lays it out.
    Whole(Block),
    /// The same, compact.
    Compact(Block),
    /// The final norm alone, as [`BlockLayout::head_beside_embedding`] lays it out.
    HeadNorm,
}

impl Part {
    pub(crate) fn layout(self, config: &ModelConfig) -> BlockLayout {
        match self {
            Self::Whole(block) => BlockLayout::of(config, block),
            Self::Compact(block) => BlockLayout::of(&config.encoded(Encoding::Compact), block),
            Self::HeadNorm => BlockLayout::head_beside_embedding(config),
        }
    }

    /// The compact form of `block`; the block as it is where nothing in it can be compact.
    fn compact(config: &ModelConfig, block: Block) -> Self {
        let (compact, whole) = (Self::Compact(block), Self::Whole(block));
        if compact.layout(config) == whole.layout(config) { whole } else { compact }
    }

    pub(crate) const fn block(self) -> Block {
        match self {
            Self::Whole(block) | Self::Compact(block) => block,
            Self::HeadNorm => Block::Head,
        }
    }

    /// The file's name without its ending.
    pub(crate) fn stem(self) -> String {
        match self {
            Self::Compact(block) => format!("{}-compact", Self::Whole(block).stem()),
            Self::Whole(Block::Embedding) => "embedding".into(),
            Self::Whole(Block::Attention(layer)) => format!("attention-{:04}", layer.0),
            Self::Whole(Block::Mlp(layer)) => format!("mlp-{:04}", layer.0),
            Self::Whole(Block::Head) => "head".into(),
            Self::HeadNorm => "head-norm".into(),
        }
    }

    pub(crate) fn file_name(self) -> String {
        format!("{}.safetensors", self.stem())
    }

    /// Every file that a model can have in the store.
    pub(crate) fn all(config: &ModelConfig) -> Vec<Self> {
        let layers = (0..config.layers as u32).map(LayerIndex);
        let blocks = layers.flat_map(|layer| [Block::Attention(layer), Block::Mlp(layer)].map(Self::Whole));
        let mut parts = vec![Self::Whole(Block::Embedding)];
        parts.extend(blocks);
        parts.push(Self::Whole(Block::Head));
        if config.has_compact_form() {
            let compact: Vec<Self> = parts
                .iter()
                .map(|part| Self::compact(config, part.block()))
                .filter(|part| !parts.contains(part))
                .collect();
            parts.extend(compact);
        }
        parts.push(Self::HeadNorm);
        parts
    }

    /// The files for a device that holds `blocks` in that encoding: a tied head needs no second copy of the matrix beside an embedding that
    /// stays in memory, and one of its own beside one that streams.
    pub(crate) fn for_device(
        config: &ModelConfig,
        blocks: &[Block],
        embedding_streams: bool,
        encoding: Encoding,
    ) -> Vec<Self> {
        let shared = config.tied && !embedding_streams && blocks.contains(&Block::Embedding);
        let part = |block: &Block| match block {
            Block::Head if shared => Self::HeadNorm,
            block if encoding == Encoding::Compact => Self::compact(config, *block),
            block => Self::Whole(*block),
        };
        let mut parts: Vec<Self> = blocks.iter().map(part).collect();
        parts.sort();
        parts.dedup();
        parts
    }
}
