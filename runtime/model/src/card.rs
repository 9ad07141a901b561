//! The model card: what a planner needs to know, from the config alone.

use lime_plan::{Block, BlockBytes, Bytes, Encoding, LayerIndex, Mixture, ModelCard, ModelFeatures};

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
            features: self.features(),
        }
    }

    /// The sizes that the blocks would have were they compact; `None` where weights are not bf16.
    pub fn compact_blocks(&self) -> Option<BlockBytes> {
        self.has_compact_form().then(|| self.encoded(Encoding::Compact).block_bytes())
    }

    fn features(&self) -> ModelFeatures {
        let spec = &self.spec;
        let attention = || spec.layers.iter().map(|layer| &layer.attention);
        let windowed = attention().any(|spec| spec.window.is_some());
        let window = |window: Option<usize>| window.map_or(0, |window| window.min(self.context) as u32);
        let mixture = spec.layers.first().and_then(|layer| layer.mlp.mixture);
        let ropes: Vec<u32> = spec.ropes().iter().map(|rope| rope.width as u32).collect();
        ModelFeatures {
            ropes: if ropes == [self.head_dim as u32] { Vec::new() } else { ropes },
            windows: if windowed { attention().map(|spec| window(spec.window)).collect() } else { Vec::new() },
            capped_scores: attention().any(|spec| spec.soft_cap.is_some()),
            mixture: mixture.map(|it| Mixture {
                experts: it.experts as u32,
                used: it.used as u32,
                shared: it.shared.map_or(0, |shared| shared.width as u32),
            }),
        }
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
