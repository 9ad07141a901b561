//! What the tensors of a model are for, and their usual names.

use lime_plan::Block;

/// The usual name of the output matrix.
pub(crate) const OUTPUT_NAME: &str = "lm_head.weight";

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TensorRole {
    /// The norm before attention.
    InputNorm,
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Output projection of attention.
    O,
    /// Bias of the query projection.
    QBias,
    /// Bias of the key projection.
    KBias,
    /// Bias of the value projection.
    VBias,
    /// Bias of the output projection of attention.
    OBias,
    /// The norm of each query head.
    QNorm,
    /// The norm of each key head.
    KNorm,
    /// The norm behind attention.
    AttentionOutNorm,
    /// The norm before the feed-forward projections.
    PostNorm,
    /// Gate projection.
    Gate,
    /// Up projection.
    Up,
    /// Down projection.
    Down,
    /// Bias of the gate projection.
    GateBias,
    /// Bias of the up projection.
    UpBias,
    /// Bias of the down projection.
    DownBias,
    /// The norm behind the feed-forward projections.
    MlpOutNorm,
    /// The scores of a layer's experts, one row each.
    Router,
    /// The score of the expert that every row goes through, one row.
    SharedRouter,
    /// Gate projection of an expert.
    ExpertGate(u16),
    /// Up projection of an expert.
    ExpertUp(u16),
    /// Down projection of an expert.
    ExpertDown(u16),
    /// The norm after the last layer.
    FinalNorm,
    /// Token embeddings, one row per token.
    Embedding,
    /// Output matrix, one row per token.
    Output,
}

impl TensorRole {
    /// The tensor's name in the files of most families, and in LIME's own. `block` supplies the layer.
    pub fn file_name(self, block: Block) -> String {
        let within = match self {
            Self::Embedding => return "model.embed_tokens.weight".into(),
            Self::Output => return OUTPUT_NAME.into(),
            Self::FinalNorm => return "model.norm.weight".into(),
            Self::InputNorm => "input_layernorm.weight",
            Self::Q => "self_attn.q_proj.weight",
            Self::K => "self_attn.k_proj.weight",
            Self::V => "self_attn.v_proj.weight",
            Self::O => "self_attn.o_proj.weight",
            Self::QBias => "self_attn.q_proj.bias",
            Self::KBias => "self_attn.k_proj.bias",
            Self::VBias => "self_attn.v_proj.bias",
            Self::OBias => "self_attn.o_proj.bias",
            Self::QNorm => "self_attn.q_norm.weight",
            Self::KNorm => "self_attn.k_norm.weight",
            Self::AttentionOutNorm => "post_self_attn_layernorm.weight",
            Self::PostNorm => "post_attention_layernorm.weight",
            Self::Gate => "mlp.gate_proj.weight",
            Self::Up => "mlp.up_proj.weight",
            Self::Down => "mlp.down_proj.weight",
            Self::GateBias => "mlp.gate_proj.bias",
            Self::UpBias => "mlp.up_proj.bias",
            Self::DownBias => "mlp.down_proj.bias",
            Self::MlpOutNorm => "post_mlp_layernorm.weight",
            Self::Router => "mlp.gate.weight",
            Self::SharedRouter => "mlp.shared_expert_gate.weight",
            Self::ExpertGate(expert) => return expert_name(block, expert, "gate_proj"),
            Self::ExpertUp(expert) => return expert_name(block, expert, "up_proj"),
            Self::ExpertDown(expert) => return expert_name(block, expert, "down_proj"),
        };
        format!("model.layers.{}.{within}", layer_of(block))
    }
}

fn expert_name(block: Block, expert: u16, projection: &str) -> String {
    format!("model.layers.{}.mlp.experts.{expert}.{projection}.weight", layer_of(block))
}

/// The layer of a block; 0 for those that are of none.
pub(crate) const fn layer_of(block: Block) -> u32 {
    match block {
        Block::Attention(layer) | Block::Mlp(layer) => layer.0,
        Block::Embedding | Block::Head => 0,
    }
}
