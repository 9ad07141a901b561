//! The families whose rows choose among experts, a page of data each. What a page does not say is as in [`PLAIN`].

use lime_plan::Architecture;

use super::{
    Bias, BiasPage, ExpertTensors, Family, MixturePage, RopePage, SharedPage, TensorPage, WeightsPage,
    pages::{EXPERTS, NO_BIASES, PLAIN, ROPE, TENSORS},
};
use crate::{
    layer_spec::{ExpertWeights, QkNormWidth},
    tensor_role::TensorRole,
};

pub(super) static MIXTURES: [Family; 6] = [
    Family {
        architecture: Architecture::Qwen3Moe,
        classes: &["Qwen3MoeForCausalLM"],
        model_type: "qwen3_moe",
        own_fields: &[
            "attention_bias",
            "moe_intermediate_size",
            "norm_topk_prob",
            "num_experts",
            "num_experts_per_tok",
            "num_local_experts",
        ],
        kv_heads: Some(4),
        windows: true,
        window: Some(4096),
        window_by_flag: true,
        biases: BiasPage { mlp: Bias::Never, ..PLAIN.biases },
        qk_norm: Some(QkNormWidth::Head),
        mixture: Some(MixturePage {
            count: "num_experts",
            experts: 128,
            used: 8,
            width: "moe_intermediate_size",
            weights: WeightsPage::ByField,
            shared: None,
        }),
        ..PLAIN
    },
    Family {
        architecture: Architecture::OlMoe,
        classes: &["OlmoeForCausalLM"],
        model_type: "olmoe",
        own_fields: &["attention_bias", "norm_topk_prob", "num_experts", "num_experts_per_tok", "num_local_experts"],
        rms_norm_eps: 1e-5,
        biases: BiasPage { mlp: Bias::Never, ..PLAIN.biases },
        qk_norm: Some(QkNormWidth::Row),
        mixture: Some(MixturePage {
            count: "num_experts",
            experts: 64,
            used: 8,
            width: "intermediate_size",
            weights: WeightsPage::ByField,
            shared: None,
        }),
        ..PLAIN
    },
    Family {
        architecture: Architecture::Mixtral,
        classes: &["MixtralForCausalLM"],
        model_type: "mixtral",
        windows: true,
        own_fields: &["num_experts_per_tok", "num_local_experts"],
        kv_heads: Some(8),
        rms_norm_eps: 1e-5,
        rope: RopePage { theta: 1_000_000.0, ..ROPE },
        biases: NO_BIASES,
        mixture: Some(MixturePage {
            count: "num_local_experts",
            experts: 8,
            used: 2,
            width: "intermediate_size",
            weights: WeightsPage::Always(ExpertWeights::OfAllToOne),
            shared: None,
        }),
        tensors: TensorPage {
            experts: ExpertTensors {
                router: "block_sparse_moe.gate.weight",
                each: [
                    "block_sparse_moe.experts.*.w1.weight",
                    "block_sparse_moe.experts.*.w3.weight",
                    "block_sparse_moe.experts.*.w2.weight",
                ],
                ..EXPERTS
            },
            ..TENSORS
        },
        ..PLAIN
    },
    Family {
        architecture: Architecture::GraniteMoe,
        classes: &["GraniteMoeForCausalLM"],
        model_type: "granitemoe",
        own_fields: &[
            "attention_bias",
            "attention_multiplier",
            "embedding_multiplier",
            "logits_scaling",
            "num_experts_per_tok",
            "num_local_experts",
            "residual_multiplier",
        ],
        multipliers: true,
        biases: BiasPage { mlp: Bias::Never, ..PLAIN.biases },
        mixture: Some(MixturePage {
            count: "num_local_experts",
            experts: 8,
            used: 2,
            width: "intermediate_size",
            weights: WeightsPage::Always(ExpertWeights::OfUsed),
            shared: None,
        }),
        tensors: TensorPage {
            experts: ExpertTensors {
                router: "block_sparse_moe.router.layer.weight",
                stacked: ["block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"],
                ..EXPERTS
            },
            ..TENSORS
        },
        ..PLAIN
    },
    Family {
        architecture: Architecture::Qwen2Moe,
        classes: &["Qwen2MoeForCausalLM"],
        model_type: "qwen2_moe",
        own_fields: &[
            "moe_intermediate_size",
            "norm_topk_prob",
            "num_experts",
            "num_experts_per_tok",
            "num_local_experts",
            "qkv_bias",
            "shared_expert_intermediate_size",
        ],
        kv_heads: Some(16),
        window: Some(4096),
        window_by_flag: true,
        biases: BiasPage { qkv: Bias::By { field: "qkv_bias", or: "qkv_bias", default: true }, ..NO_BIASES },
        mixture: Some(MixturePage {
            count: "num_experts",
            experts: 60,
            used: 4,
            width: "moe_intermediate_size",
            weights: WeightsPage::ByField,
            shared: Some(SharedPage { field: "shared_expert_intermediate_size", width: 5632, scored: true }),
        }),
        tensors: TensorPage {
            names: &[
                (TensorRole::Gate, "mlp.shared_expert.gate_proj.weight"),
                (TensorRole::Up, "mlp.shared_expert.up_proj.weight"),
                (TensorRole::Down, "mlp.shared_expert.down_proj.weight"),
            ],
            ..TENSORS
        },
        ..PLAIN
    },
    Family {
        architecture: Architecture::GraniteMoeShared,
        classes: &["GraniteMoeSharedForCausalLM"],
        model_type: "granitemoeshared",
        own_fields: &[
            "attention_bias",
            "attention_multiplier",
            "embedding_multiplier",
            "logits_scaling",
            "num_experts_per_tok",
            "num_local_experts",
            "residual_multiplier",
            "shared_intermediate_size",
        ],
        multipliers: true,
        biases: BiasPage { mlp: Bias::Never, ..PLAIN.biases },
        mixture: Some(MixturePage {
            count: "num_local_experts",
            experts: 8,
            used: 2,
            width: "intermediate_size",
            weights: WeightsPage::Always(ExpertWeights::OfUsed),
            shared: Some(SharedPage { field: "shared_intermediate_size", width: 0, scored: false }),
        }),
        tensors: TensorPage {
            names: &[(TensorRole::Down, "shared_mlp.output_linear.weight")],
            fused: &[("shared_mlp.input_linear.weight", &[TensorRole::Gate, TensorRole::Up])],
            experts: ExpertTensors {
                router: "block_sparse_moe.router.layer.weight",
                stacked: ["block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"],
                ..EXPERTS
            },
            ..TENSORS
        },
        ..PLAIN
    },
];
