//! The model card: what the planner needs to know of a model, read from its config and file headers alone.

use serde::{Deserialize, Serialize};

use crate::{
    block::Block,
    dtype::Dtype,
    encoding::Encoding,
    features::{Mixture, ModelFeatures},
    format::Format,
    units::{Bytes, LayerIndex},
};

/// Model families that the runtime can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama 2, 3 and whatever shares `LlamaForCausalLM`.
    Llama,
    /// Mistral (`MistralForCausalLM`).
    Mistral,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: normalised q and k, a head dimension of its own.
    Qwen3,
    /// Seed-OSS: biases on q, k and v, and on the output projection by a field of its own.
    SeedOss,
    /// Ministral 3, the language model alone.
    Ministral3,
    /// InternLM3: Llama with other names for its biases.
    InternLm3,
    /// EXAONE 3 and 3.5: Llama with other names for its tensors.
    Exaone,
    /// Phi-3 and Phi-4: q, k and v in one tensor, and gate and up; in some a part of each head is rotated.
    Phi3,
    /// ERNIE 4.5, dense: neighbouring elements of a head are rotated together.
    #[serde(rename = "ernie4_5")]
    Ernie45,
    /// Granite, dense: multipliers of embeddings, scores, the residual stream and logits.
    Granite,
    /// SmolLM3: layers that do not rotate among those that do.
    SmolLm3,
    /// Ministral: windows in some layers.
    Ministral,
    /// OLMo 2: norms behind the projections, and one over all heads of q and k.
    Olmo2,
    /// OLMo 3: OLMo 2 with windows in most layers.
    Olmo3,
    /// Gemma 2: norms before and behind, soft caps, windows in every other layer.
    Gemma2,
    /// Gemma 3, the language model alone: norms before and behind, windows and another rope in most layers.
    Gemma3,
    /// Qwen3's mixtures of experts.
    Qwen3Moe,
    /// Qwen2's mixtures of experts, with one that every row goes through.
    Qwen2Moe,
    /// OLMoE: a mixture of experts, and one norm over all heads of q and k.
    OlMoe,
    /// Mixtral: Mistral as a mixture of experts.
    Mixtral,
    /// Granite 3's mixtures of experts.
    GraniteMoe,
    /// The same with an expert that every row goes through.
    GraniteMoeShared,
}

/// Rows after which every expert is as good as read.
const MOST_CHOICES: u32 = 1 << 12;

/// Bytes of every block as a device holds it: tensors padded to 64 bytes, the block to 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockBytes {
    /// The embedding matrix.
    pub embedding: Bytes,
    /// One entry per layer.
    pub attention: Vec<Bytes>,
    /// One entry per layer.
    pub mlp: Vec<Bytes>,
    /// Final norm and output matrix, the matrix counted even where it is tied.
    pub head: Bytes,
    /// The head's bytes when it shares the matrix of an embedding on the same device (final norm alone).
    pub head_beside_embedding: Bytes,
}

/// What the planner needs to know of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelCard {
    /// A name for people.
    pub name: String,
    /// The family.
    pub architecture: Architecture,
    /// How most of the projections are stored.
    #[serde(rename = "dtype")]
    pub format: Format,
    /// Number of layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the feed-forward projections, of each expert in a mixture.
    pub intermediate: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Rows of the embedding and of the output matrix.
    pub vocabulary: u32,
    /// Longest context in tokens.
    pub context: u32,
    /// Whether embedding and output matrix are one tensor.
    pub tied: bool,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of each block, in [`Self::encoding`].
    pub blocks: BlockBytes,
    /// How the blocks lie on disk and in memory.
    #[serde(default, skip_serializing_if = "Encoding::is_raw")]
    pub encoding: Encoding,
    /// Bytes of each block were it compact; `None` where the model's weights are not bf16, are not known to be compressible, or
    /// are compact already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<BlockBytes>,
    /// What is unlike a plain transformer.
    #[serde(default, skip_serializing_if = "ModelFeatures::is_plain")]
    pub features: ModelFeatures,
}

impl ModelCard {
    /// The same model with compact blocks, where that is possible.
    pub fn compacted(&self) -> Option<Self> {
        let blocks = self.compact.clone()?;
        Some(Self { blocks, encoding: Encoding::Compact, compact: None, ..self.clone() })
    }

    /// The format in which most of the projections are kept, on disk and in memory.
    pub const fn kept_format(&self) -> Format {
        self.encoding.of(self.format)
    }

    /// The type that the weights count as where a type is asked for.
    pub const fn dtype(&self) -> Dtype {
        self.format.counts_as()
    }

    /// Bytes of one block held alone.
    pub fn block_bytes(&self, block: Block) -> Bytes {
        let at = |sizes: &[Bytes], layer: LayerIndex| sizes.get(layer.0 as usize).copied().unwrap_or_default();
        match block {
            Block::Embedding => self.blocks.embedding,
            Block::Attention(layer) => at(&self.blocks.attention, layer),
            Block::Mlp(layer) => at(&self.blocks.mlp, layer),
            Block::Head => self.blocks.head,
        }
    }

    /// Bytes of a block that lies in memory which a pass of `rows` rows reads: of a mixture those experts alone that any of the rows goes
    /// through, as many as are expected when each row chooses without regard to the others and no expert is preferred.
    pub fn bytes_read(&self, block: Block, rows: u32) -> Bytes {
        let all = self.block_bytes(block);
        let (Some(Mixture { experts, used, shared }), Block::Mlp(_)) = (self.features.mixture, block) else {
            return all;
        };
        let passed_over = 1.0 - f64::from(used.min(experts)) / f64::from(experts.max(1));
        let mut unread = 1.0;
        for _ in 0..rows.min(MOST_CHOICES) {
            unread *= passed_over;
        }
        let chosen = f64::from(experts) * f64::from(self.intermediate);
        unread *= chosen / (chosen + f64::from(shared)).max(1.0);
        Bytes((all.0 as f64 * (1.0 - unread)).ceil() as u64)
    }

    /// How many earlier positions a row that has `context` of them looks at in `layer`.
    pub fn seen(&self, layer: LayerIndex, context: u32) -> u32 {
        match self.features.windows.get(layer.0 as usize) {
            None | Some(0) => context,
            Some(window) => context.min(*window),
        }
    }

    /// Bytes of layer `layer`: its attention and MLP blocks.
    pub fn layer_bytes(&self, layer: LayerIndex) -> Bytes {
        self.block_bytes(Block::Attention(layer)) + self.block_bytes(Block::Mlp(layer))
    }

    /// Every block in the order of computation.
    pub fn all_blocks(&self) -> impl Iterator<Item = Block> {
        let layers = (0..self.layers).map(LayerIndex);
        std::iter::once(Block::Embedding)
            .chain(layers.flat_map(|layer| [Block::Attention(layer), Block::Mlp(layer)]))
            .chain(std::iter::once(Block::Head))
    }

    /// Bytes of the whole model on one device (a tied matrix counted once).
    pub fn weight_bytes(&self) -> Bytes {
        let head = if self.tied { self.blocks.head_beside_embedding } else { self.blocks.head };
        let layers: Bytes = (0..self.layers).map(|layer| self.layer_bytes(LayerIndex(layer))).sum();
        self.blocks.embedding + layers + head
    }

    /// Bytes of the K and V entries of one token in one layer.
    pub fn kv_bytes_per_token_per_layer(&self, dtype: Dtype) -> Bytes {
        Bytes(2 * u64::from(self.kv_heads) * u64::from(self.head_dim) * dtype.size())
    }

    /// Multiply-adds times two that one row costs in `block`, attention over past positions not counted.
    pub fn flops_per_row(&self, block: Block) -> u64 {
        let (hidden, inner) = (u64::from(self.hidden), u64::from(self.intermediate));
        let q = u64::from(self.heads) * u64::from(self.head_dim);
        let kv = u64::from(self.kv_heads) * u64::from(self.head_dim);
        match block {
            Block::Embedding => 0,
            Block::Attention(_) => 2 * hidden * (2 * q + 2 * kv),
            Block::Mlp(_) => match self.features.mixture {
                None => 2 * 3 * hidden * inner,
                Some(Mixture { experts, used, shared }) => {
                    2 * hidden * (3 * (u64::from(used) * inner + u64::from(shared)) + u64::from(experts))
                }
            },
            Block::Head => 2 * hidden * u64::from(self.vocabulary),
        }
    }
}
