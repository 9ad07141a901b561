//! The model card: what a planner needs to know, from the config alone.

use lime_plan::{Block, BlockBytes, Bytes, Encoding, LayerIndex, ModelCard};

use crate::{config::ModelConfig, layout::BlockLayout};

impl ModelConfig {
    /// The card of a model of this shape and encoding. No weights are looked at: sizes follow from the config, and nothing is
    /// said of compact ones.
    pub fn card(&self, name: &str) -> ModelCard {
        // Every layer has the same shape.
        let attention = BlockLayout::of(self, Block::Attention(LayerIndex(0)));
        let mlp = BlockLayout::of(self, Block::Mlp(LayerIndex(0)));
        let (embedding, head) = (BlockLayout::of(self, Block::Embedding), BlockLayout::of(self, Block::Head));
        let beside = BlockLayout::head_beside_embedding(self);
        let head_elements = if self.tied { beside.elements() } else { head.elements() };
        let layer_elements = attention.elements() + mlp.elements();
        ModelCard {
            name: name.to_owned(),
            architecture: self.architecture,
            format: self.formats.usual(),
            layers: self.layers as u32,
            hidden: self.hidden as u32,
            intermediate: self.intermediate as u32,
            heads: self.heads as u32,
            kv_heads: self.kv_heads as u32,
            head_dim: self.head_dim as u32,
            vocabulary: self.vocabulary as u32,
            context: self.context as u32,
            tied: self.tied,
            parameters: embedding.elements() + self.layers as u64 * layer_elements + head_elements,
            blocks: self.block_bytes(),
            encoding: self.encoding,
            compact: None,
        }
    }

    /// The sizes that the blocks would have were they compact; `None` where weights are not bf16.
    pub fn compact_blocks(&self) -> Option<BlockBytes> {
        self.has_compact_form().then(|| self.encoded(Encoding::Compact).block_bytes())
    }

    fn block_bytes(&self) -> BlockBytes {
        let bytes = |block| Bytes(BlockLayout::of(self, block).bytes);
        let layers = || (0..self.layers as u32).map(LayerIndex);
        BlockBytes {
            embedding: bytes(Block::Embedding),
            // Formats may differ from layer to layer.
            attention: layers().map(|layer| bytes(Block::Attention(layer))).collect(),
            mlp: layers().map(|layer| bytes(Block::Mlp(layer))).collect(),
            head: bytes(Block::Head),
            head_beside_embedding: Bytes(BlockLayout::head_beside_embedding(self).bytes),
        }
    }
}
