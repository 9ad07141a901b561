//! Model cards from shapes, for tests and examples: the real ones are read from files by lime-model.
#![allow(dead_code)]

use lime_plan::{Architecture, BlockBytes, Bytes, Dtype, ModelCard};

/// The numbers of a `config.json` that decide sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) architecture: Architecture,
    pub(crate) dtype: Dtype,
    pub(crate) layers: u32,
    pub(crate) hidden: u32,
    pub(crate) intermediate: u32,
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) head_dim: u32,
    pub(crate) vocabulary: u32,
    pub(crate) context: u32,
    pub(crate) tied: bool,
}

pub(crate) const LLAMA_3_3_70B: Shape = Shape {
    name: "Llama-3.3-70B-Instruct",
    architecture: Architecture::Llama,
    dtype: Dtype::Bf16,
    layers: 80,
    hidden: 8192,
    intermediate: 28672,
    heads: 64,
    kv_heads: 8,
    head_dim: 128,
    vocabulary: 128256,
    context: 131072,
    tied: false,
};

pub(crate) const LLAMA_2_13B: Shape = Shape {
    name: "Llama-2-13B",
    architecture: Architecture::Llama,
    dtype: Dtype::F16,
    layers: 40,
    hidden: 5120,
    intermediate: 13824,
    heads: 40,
    kv_heads: 40,
    head_dim: 128,
    vocabulary: 32000,
    context: 4096,
    tied: false,
};

pub(crate) const QWEN3_32B: Shape = Shape {
    name: "Qwen3-32B",
    architecture: Architecture::Qwen3,
    dtype: Dtype::Bf16,
    layers: 64,
    hidden: 5120,
    intermediate: 25600,
    heads: 64,
    kv_heads: 8,
    head_dim: 128,
    vocabulary: 151936,
    context: 40960,
    tied: false,
};

impl Shape {
    /// The card of this shape: tensors padded to 64 bytes, blocks to 4 KiB (norms counted, biases left out).
    pub(crate) fn card(self) -> ModelCard {
        let size = self.dtype.size();
        let [hidden, inner, vocabulary] = [self.hidden, self.intermediate, self.vocabulary].map(u64::from);
        let q = u64::from(self.heads * self.head_dim);
        let kv = u64::from(self.kv_heads * self.head_dim);
        let block = |elements: &[u64]| {
            let padded: Bytes = elements.iter().map(|count| Bytes((count * size).next_multiple_of(64))).sum();
            Bytes(padded.0.next_multiple_of(4096))
        };
        let attention = block(&[hidden, hidden * q, hidden * kv, hidden * kv, q * hidden]);
        let mlp = block(&[hidden, hidden * inner, hidden * inner, inner * hidden]);
        let per_layer = 2 * hidden + 2 * hidden * (q + kv) + 3 * hidden * inner;
        let matrices = if self.tied { 1 } else { 2 };
        ModelCard {
            name: self.name.to_owned(),
            architecture: self.architecture,
            format: self.dtype.into(),
            layers: self.layers,
            hidden: self.hidden,
            intermediate: self.intermediate,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocabulary: self.vocabulary,
            context: self.context,
            tied: self.tied,
            parameters: u64::from(self.layers) * per_layer + matrices * vocabulary * hidden + hidden,
            encoding: Default::default(),
            compact: None,
            features: Default::default(),
            blocks: BlockBytes {
                embedding: block(&[vocabulary * hidden]),
                attention: vec![attention; self.layers as usize],
                mlp: vec![mlp; self.layers as usize],
                head: block(&[hidden, vocabulary * hidden]),
                head_beside_embedding: if self.tied { block(&[hidden]) } else { block(&[hidden, vocabulary * hidden]) },
            },
        }
    }
}

/// The same model with the sizes of compact blocks, as weights that are compressible have them.
pub(crate) fn compressible(card: ModelCard) -> ModelCard {
    let less = |bytes: &Bytes| Bytes((bytes.0 / 100 * COMPACT_PERCENT).next_multiple_of(4096));
    let blocks = &card.blocks;
    let compact = BlockBytes {
        embedding: less(&blocks.embedding),
        attention: blocks.attention.iter().map(less).collect(),
        mlp: blocks.mlp.iter().map(less).collect(),
        head: less(&blocks.head),
        head_beside_embedding: less(&blocks.head_beside_embedding),
    };
    ModelCard { compact: Some(compact), ..card }
}

/// Of its raw bytes that a matrix takes compact.
pub(crate) const COMPACT_PERCENT: u64 = 71;
