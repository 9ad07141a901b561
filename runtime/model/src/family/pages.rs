//! The families, a page of data each. What a page does not say is as in [`PLAIN`].

use lime_plan::Architecture;

use super::{Bias, BiasPage, Family, RopePage, TensorPage};
use crate::{
    layer_spec::{ActivationKind, QkNormWidth},
    tensor_role::TensorRole,
};

const NO_BIASES: BiasPage = BiasPage { qkv: Bias::Never, o: Bias::Never, mlp: Bias::Never };
const ROPE: RopePage = RopePage { theta: 10_000.0, required: false, yarn: true, unrotated_interval: None };
const TENSORS: TensorPage = TensorPage { layers: "model.layers.", names: &[], fused: &[], neighbours_rotate: false };

/// What most families assume.
const PLAIN: Family = Family {
    architecture: Architecture::Llama,
    classes: &["LlamaForCausalLM"],
    model_type: "llama",
    own_fields: &["attention_bias", "mlp_bias"],
    renames: &[],
    kv_heads: None,
    head_dim: None,
    window: None,
    window_by_flag: false,
    rms_norm_eps: 1e-6,
    norm_offset: 0.0,
    rope: ROPE,
    tied: false,
    biases: BiasPage { qkv: Bias::by("attention_bias"), o: Bias::by("attention_bias"), mlp: Bias::by("mlp_bias") },
    qk_norm: None,
    activation: ActivationKind::Silu,
    multipliers: false,
    tensors: TENSORS,
};

pub(super) static FAMILIES: [Family; 12] = [
    PLAIN,
    Family {
        architecture: Architecture::Mistral,
        classes: &["MistralForCausalLM"],
        model_type: "mistral",
        own_fields: &[],
        kv_heads: Some(8),
        window: Some(4096),
        biases: NO_BIASES,
        ..PLAIN
    },
    Family {
        architecture: Architecture::Qwen2,
        classes: &["Qwen2ForCausalLM"],
        model_type: "qwen2",
        // Its biases are what they are; whether the file's agree is seen from its tensors.
        own_fields: &["attention_bias"],
        kv_heads: Some(32),
        window: Some(4096),
        window_by_flag: true,
        biases: BiasPage { qkv: Bias::Always, ..NO_BIASES },
        ..PLAIN
    },
    Family {
        architecture: Architecture::Qwen3,
        classes: &["Qwen3ForCausalLM"],
        model_type: "qwen3",
        own_fields: &["attention_bias"],
        kv_heads: Some(32),
        head_dim: Some(128),
        window: Some(4096),
        window_by_flag: true,
        biases: BiasPage { mlp: Bias::Never, ..PLAIN.biases },
        qk_norm: Some(QkNormWidth::Head),
        ..PLAIN
    },
    Family {
        architecture: Architecture::SeedOss,
        classes: &["SeedOssForCausalLM"],
        model_type: "seed_oss",
        own_fields: &["attention_bias", "attention_out_bias", "mlp_bias"],
        kv_heads: Some(8),
        head_dim: Some(128),
        biases: BiasPage {
            qkv: Bias::By { field: "attention_bias", or: "attention_bias", default: true },
            o: Bias::by("attention_out_bias"),
            mlp: Bias::by("mlp_bias"),
        },
        ..PLAIN
    },
    Family {
        architecture: Architecture::Ministral3,
        classes: &["Ministral3ForCausalLM"],
        model_type: "ministral3",
        own_fields: &[],
        kv_heads: Some(8),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        rope: RopePage { required: true, ..ROPE },
        biases: NO_BIASES,
        ..PLAIN
    },
    Family {
        architecture: Architecture::InternLm3,
        classes: &["InternLM3ForCausalLM", "LlamaForCausalLM"],
        model_type: "internlm3",
        // The latter two are what transformers calls the former.
        own_fields: &["qkv_bias", "bias", "attention_bias", "mlp_bias"],
        kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        biases: BiasPage {
            qkv: Bias::By { field: "qkv_bias", or: "attention_bias", default: false },
            o: Bias::By { field: "bias", or: "mlp_bias", default: false },
            mlp: Bias::By { field: "bias", or: "mlp_bias", default: false },
        },
        ..PLAIN
    },
    Family {
        architecture: Architecture::Exaone,
        classes: &["ExaoneForCausalLM", "LlamaForCausalLM"],
        model_type: "exaone",
        // The other names of fields that all families have.
        own_fields: &["num_layers", "layer_norm_epsilon", "activation_function"],
        kv_heads: Some(8),
        rms_norm_eps: 1e-5,
        rope: RopePage { theta: 500_000.0, ..ROPE },
        biases: NO_BIASES,
        renames: &[
            ("num_hidden_layers", "num_layers"),
            ("rms_norm_eps", "layer_norm_epsilon"),
            ("hidden_act", "activation_function"),
        ],
        tensors: TensorPage {
            layers: "transformer.h.",
            names: &[
                (TensorRole::Embedding, "transformer.wte.weight"),
                (TensorRole::FinalNorm, "transformer.ln_f.weight"),
                (TensorRole::InputNorm, "ln_1.weight"),
                (TensorRole::Q, "attn.attention.q_proj.weight"),
                (TensorRole::K, "attn.attention.k_proj.weight"),
                (TensorRole::V, "attn.attention.v_proj.weight"),
                (TensorRole::O, "attn.attention.out_proj.weight"),
                (TensorRole::PostNorm, "ln_2.weight"),
                (TensorRole::Gate, "mlp.c_fc_0.weight"),
                (TensorRole::Up, "mlp.c_fc_1.weight"),
                (TensorRole::Down, "mlp.c_proj.weight"),
            ],
            ..TENSORS
        },
        ..PLAIN
    },
    Family {
        architecture: Architecture::Phi3,
        classes: &["Phi3ForCausalLM"],
        model_type: "phi3",
        own_fields: &[],
        rms_norm_eps: 1e-5,
        // What it calls yarn is another thing.
        rope: RopePage { yarn: false, ..ROPE },
        biases: NO_BIASES,
        tensors: TensorPage {
            fused: &[
                ("self_attn.qkv_proj.weight", &[TensorRole::Q, TensorRole::K, TensorRole::V]),
                ("mlp.gate_up_proj.weight", &[TensorRole::Gate, TensorRole::Up]),
            ],
            ..TENSORS
        },
        ..PLAIN
    },
    Family {
        architecture: Architecture::Ernie45,
        classes: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
        model_type: "ernie4_5",
        own_fields: &[],
        kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        tied: true,
        rope: RopePage { theta: 500_000.0, ..ROPE },
        biases: NO_BIASES,
        tensors: TensorPage { neighbours_rotate: true, ..TENSORS },
        ..PLAIN
    },
    Family {
        architecture: Architecture::Granite,
        classes: &["GraniteForCausalLM"],
        model_type: "granite",
        own_fields: &[
            "attention_bias",
            "attention_multiplier",
            "embedding_multiplier",
            "logits_scaling",
            "mlp_bias",
            "residual_multiplier",
        ],
        multipliers: true,
        ..PLAIN
    },
    Family {
        architecture: Architecture::SmolLm3,
        classes: &["SmolLM3ForCausalLM"],
        model_type: "smollm3",
        own_fields: &["attention_bias", "mlp_bias", "no_rope_layer_interval", "no_rope_layers"],
        kv_heads: Some(4),
        window_by_flag: true,
        rope: RopePage { theta: 2_000_000.0, unrotated_interval: Some(4), ..ROPE },
        tied: true,
        ..PLAIN
    },
];
