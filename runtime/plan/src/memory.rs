//! What a device's share of a model takes in memory, to the byte.
//!
//! One formula for both sides: the planner counts with it, and the engine allocates by it and asserts that it did.

use crate::{
    block::Block,
    card::ModelCard,
    device_memory::DeviceMemory,
    dtype::Dtype,
    features::Mixture,
    placement::{PlacedBlock, Residency},
    plan_draft::PlanDraft,
    serving_limits::ServingLimits,
    units::Bytes,
};

/// Positions of one KV page, and of one block of the canonical attention order.
pub const KV_PAGE_TOKENS: u32 = 64;

/// Elements of one block of the canonical dot product: packed rows are padded to it.
const DOT_BLOCK: u64 = 32;

const F32: u64 = Dtype::F32.size();

/// What the memory formula needs to know of a deployment, whoever holds what.
#[derive(Clone, Copy, Debug)]
pub struct MemoryModel<'a> {
    /// The model.
    pub card: &'a ModelCard,
    /// What may be asked at once.
    pub serving: ServingLimits,
    /// The dtype of KV entries.
    pub kv: Dtype,
    /// The dtype of the residual stream, and of the wire.
    pub residual: Dtype,
}

/// Every buffer that a device's passes need besides weights and KV pages, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivationBytes {
    /// The residual stream of the largest pass, in f32.
    pub residual: Bytes,
    /// The same as it came from the wire and as it leaves, in the residual dtype.
    pub wire: Bytes,
    /// Intermediate rows, largest first. No step needs more than three at once, nor larger ones.
    pub rows: [Bytes; 3],
    /// Where rows choose among experts: the rows that all of them begin with, and the sum of what they come to.
    pub mixture: [Bytes; 2],
    /// The rows of one projection in the lane order of the kernels.
    pub packed: Bytes,
    /// Norm weights or biases of one step, in f32.
    pub vectors: Bytes,
    /// Sines and cosines of every position.
    pub rope: Bytes,
    /// Logits of one row for each request, where the head is.
    pub logits: Bytes,
}

impl ActivationBytes {
    /// All of it, added up.
    pub fn total(&self) -> Bytes {
        let rows: Bytes = self.rows.iter().copied().sum();
        let mixture: Bytes = self.mixture.iter().copied().sum();
        self.residual + self.wire + rows + mixture + self.packed + self.vectors + self.rope + self.logits
    }
}

impl<'a> MemoryModel<'a> {
    /// The formula's inputs as a plan states them.
    pub const fn of(plan: &'a PlanDraft) -> Self {
        Self { card: &plan.model, serving: plan.serving, kv: plan.kv, residual: plan.residual }
    }

    /// Weights that stay in memory when a device holds `blocks`: a tied matrix counts once where its two users meet.
    pub fn pinned(&self, blocks: &[PlacedBlock]) -> Bytes {
        let embedding = holds_pinned(blocks, Block::Embedding);
        let pinned = blocks.iter().filter(|placed| placed.residency == Residency::Pinned);
        pinned
            .map(|placed| match placed.block {
                Block::Head if self.card.tied && embedding => self.card.blocks.head_beside_embedding,
                block => self.card.block_bytes(block),
            })
            .sum()
    }

    /// KV pages of one sequence at its longest.
    pub const fn pages_per_slot(&self) -> u32 {
        self.serving.max_context_tokens.div_ceil(KV_PAGE_TOKENS)
    }

    /// Bytes of one KV page on a device with `layers` layers.
    pub fn page_bytes(&self, layers: u32) -> Bytes {
        self.card.kv_bytes_per_token_per_layer(self.kv) * u64::from(KV_PAGE_TOKENS) * u64::from(layers)
    }

    /// The KV cache of `layers` layers: every slot at its longest, in whole pages.
    pub fn kv(&self, layers: u32) -> Bytes {
        let pages = u64::from(self.pages_per_slot()) * u64::from(self.serving.max_concurrent_requests);
        self.page_bytes(layers) * pages
    }

    /// What a device with `layers` layers takes besides while KV pages of it are elsewhere, and as much there: the queries of the
    /// largest pass and where their heads stand, or a page on its way, as it is used and as the wire carries it.
    pub fn exchange(&self, layers: u32) -> Bytes {
        let heads = u64::from(self.serving.max_rows()) * u64::from(self.card.heads);
        let question = Bytes(heads * (2 * u64::from(self.card.head_dim) + 2) * F32);
        question.max(self.page_bytes(layers)) * 2
    }

    /// The buffers that a device with `blocks` needs for its largest pass.
    pub fn activations(&self, blocks: &[PlacedBlock]) -> ActivationBytes {
        let card = self.card;
        let most_rows = u64::from(self.serving.max_rows());
        let shared = card.features.mixture.map_or(0, |mixture| mixture.shared);
        let (hidden, inner) = (u64::from(card.hidden), u64::from(card.intermediate.max(shared)));
        let head_dim = u64::from(card.head_dim);
        let (q, kv) = (u64::from(card.heads) * head_dim, u64::from(card.kv_heads) * head_dim);
        let rows_of = |columns: u64| Bytes(most_rows * columns * F32);

        let mut bytes = ActivationBytes {
            residual: rows_of(hidden),
            wire: Bytes(2 * most_rows * hidden * self.residual.size()),
            ..ActivationBytes::default()
        };
        let layers = blocks.iter().any(|placed| matches!(placed.block, Block::Attention(_) | Block::Mlp(_)));
        let head = blocks.iter().any(|placed| placed.block == Block::Head);
        let mut widest = 0;
        if layers {
            bytes.rows = [rows_of(hidden.max(q).max(inner)), rows_of(q.max(inner)), rows_of(kv.max(inner))];
            bytes.vectors = Bytes(hidden.max(q + 2 * kv).max(2 * inner) * F32);
            if layer_count(blocks) > 0 {
                let ropes: u64 = card.features.ropes.iter().copied().map(u64::from).sum();
                let columns = if card.features.ropes.is_empty() { head_dim } else { ropes };
                bytes.rope = Bytes(u64::from(self.serving.max_context_tokens) * columns * F32);
            }
            if let Some(Mixture { experts, .. }) = card.features.mixture {
                bytes.mixture = [rows_of(hidden); 2];
                bytes.rows[2] = bytes.rows[2].max(rows_of(experts.into()));
            }
            widest = hidden.max(q).max(inner);
        }
        if head {
            bytes.rows[0] = bytes.rows[0].max(rows_of(hidden));
            bytes.vectors = bytes.vectors.max(Bytes(hidden * F32));
            bytes.logits = Bytes(u64::from(self.serving.max_concurrent_requests) * u64::from(card.vocabulary) * F32);
            widest = widest.max(hidden);
        }
        bytes.packed = rows_of(widest.div_ceil(DOT_BLOCK) * DOT_BLOCK);
        bytes
    }

    /// The memory of a device that holds `blocks`: what the engine takes, and nothing for prefetch, overhead or budget.
    pub fn device(&self, blocks: &[PlacedBlock]) -> DeviceMemory {
        DeviceMemory {
            pinned: self.pinned(blocks),
            kv: self.kv(layer_count(blocks)),
            activations: self.activations(blocks).total(),
            ..DeviceMemory::default()
        }
    }
}

fn holds_pinned(blocks: &[PlacedBlock], block: Block) -> bool {
    blocks.contains(&PlacedBlock { block, residency: Residency::Pinned })
}

/// Layers whose attention a device computes: those that need KV pages there.
fn layer_count(blocks: &[PlacedBlock]) -> u32 {
    blocks.iter().filter(|placed| matches!(placed.block, Block::Attention(_))).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        card::{Architecture, BlockBytes},
        features::ModelFeatures,
        format::Format,
        units::LayerIndex,
    };

    fn card() -> ModelCard {
        ModelCard {
            name: "tiny".into(),
            architecture: Architecture::Llama,
            format: Format::Bf16,
            layers: 2,
            hidden: 128,
            intermediate: 352,
            heads: 4,
            kv_heads: 2,
            head_dim: 32,
            vocabulary: 1024,
            context: 512,
            tied: true,
            parameters: 0,
            encoding: Default::default(),
            compact: None,
            features: Default::default(),
            blocks: BlockBytes {
                embedding: Bytes(1000),
                attention: vec![Bytes(10), Bytes(20)],
                mlp: vec![Bytes(100), Bytes(200)],
                head: Bytes(1004),
                head_beside_embedding: Bytes(4),
            },
        }
    }

    fn pinned(blocks: impl IntoIterator<Item = Block>) -> Vec<PlacedBlock> {
        let place = |block| PlacedBlock { block, residency: Residency::Pinned };
        blocks.into_iter().map(place).collect()
    }

    fn model(card: &ModelCard) -> MemoryModel<'_> {
        let serving = ServingLimits { max_context_tokens: 65, max_concurrent_requests: 3, prefill_chunk_tokens: 13 };
        MemoryModel { card, serving, kv: Dtype::Bf16, residual: Dtype::F32 }
    }

    #[test]
    fn a_tied_matrix_counts_once_beside_the_embedding() {
        let card = card();
        let model = model(&card);
        assert_eq!(model.pinned(&pinned(card.all_blocks())), Bytes(1334));
        assert_eq!(model.pinned(&pinned([Block::Head])), Bytes(1004));
    }

    #[test]
    fn streamed_blocks_are_not_pinned() {
        let card = card();
        let mut blocks = pinned([Block::Attention(LayerIndex(0)), Block::Mlp(LayerIndex(0))]);
        blocks[1].residency = Residency::Streamed;
        assert_eq!(model(&card).pinned(&blocks), Bytes(10));
    }

    #[test]
    fn kv_is_whole_pages_per_slot_and_layer() {
        let card = card();
        // 2 pages a slot, 3 slots, 64 tokens, K and V of 2 heads of 32 elements of 2 bytes.
        assert_eq!(model(&card).kv(2), Bytes(2 * (2 * 3 * 64 * 2 * 2 * 32 * 2)));
        assert_eq!(model(&card).kv(0), Bytes::ZERO);
    }

    #[test]
    fn activations_depend_on_what_is_held() {
        let card = card();
        let model = model(&card);
        let only_embedding = model.activations(&pinned([Block::Embedding]));
        assert_eq!(only_embedding.total(), Bytes(16 * 128 * 4 * 3));
        let head = model.activations(&pinned([Block::Head]));
        assert_eq!(head.logits, Bytes(3 * 1024 * 4));
        assert_eq!(head.rope, Bytes::ZERO);
        let layers = model.activations(&pinned([Block::Attention(LayerIndex(0)), Block::Mlp(LayerIndex(0))]));
        assert_eq!(layers.rows, [Bytes(16 * 352 * 4); 3]);
        assert_eq!(layers.packed, Bytes(16 * 352 * 4));
        assert_eq!(layers.rope, Bytes(65 * 32 * 4));
        assert_eq!(layers.logits, Bytes::ZERO);
    }

    #[test]
    fn more_ropes_and_experts_take_more() {
        let features = ModelFeatures {
            ropes: vec![32, 24],
            mixture: Some(Mixture { experts: 500, used: 2, shared: 0 }),
            ..Default::default()
        };
        let card = ModelCard { features, ..card() };
        let layers = model(&card).activations(&pinned([Block::Attention(LayerIndex(0)), Block::Mlp(LayerIndex(0))]));
        assert_eq!(layers.rope, Bytes(65 * (32 + 24) * 4));
        assert_eq!(layers.mixture, [Bytes(16 * 128 * 4); 2]);
        assert_eq!(layers.rows[2], Bytes(16 * 500 * 4));
    }
}
