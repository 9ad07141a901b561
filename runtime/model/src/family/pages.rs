//! The families with one MLP a layer, a page of data each. What a page does not say is as in [`PLAIN`].

use lime_plan::Architecture;

use super::{Bias, BiasPage, ExpertTensors, Family, RopePage, SoftCapPage, TensorPage, WindowedRope};
use crate::{
    layer_spec::{ActivationKind, NormPlace, QkNormWidth},
    tensor_role::TensorRole,
};

pub(super) const NO_BIASES: BiasPage = BiasPage { qkv: Bias::Never, o: Bias::Never, mlp: Bias::Never };
pub(super) const ROPE: RopePage = RopePage {
    theta: 10_000.0,
    required: false,
    yarn: true,
    windowed: WindowedRope::AsOthers,
    partial: false,
    long: false,
    unrotated_interval: None,
};
pub(super) const TENSORS: TensorPage =
    TensorPage { layers: "model.layers.", names: &[], fused: &[], neighbours_rotate: false, experts: EXPERTS };
pub(super) const EXPERTS: ExpertTensors = ExpertTensors {
    router: "mlp.gate.weight",
    each: ["mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight", "mlp.experts.*.down_proj.weight"],
    stacked: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
};
/// Norms behind the projections.
const NORMS_BEHIND: [(TensorRole, &str); 2] = [
    (TensorRole::AttentionOutNorm, "post_attention_layernorm.weight"),
    (TensorRole::MlpOutNorm, "post_feedforward_layernorm.weight"),
];
/// Norms before and behind the projections.
const NORMS_AROUND: [(TensorRole, &str); 3] =
    [NORMS_BEHIND[0], (TensorRole::PostNorm, "pre_feedforward_layernorm.weight"), NORMS_BEHIND[1]];

/// What most families assume.
pub(super) const PLAIN: Family = Family {
    architecture: Architecture::Llama,
    classes: &["LlamaForCausalLM"],
    model_type: "llama",
    own_fields: &["attention_bias", "mlp_bias"],
    renames: &[],
    kv_heads: None,
    head_dim: None,
    windows: false,
    window: None,
    window_by_flag: false,
    window_pattern: None,
    rms_norm_eps: 1e-6,
    norm_offset: 0.0,
    norm_place: NormPlace::Before,
    rope: ROPE,
    tied: false,
    biases: BiasPage { qkv: Bias::by("attention_bias"), o: Bias::by("attention_bias"), mlp: Bias::by("mlp_bias") },
    qk_norm: None,
    activation: ActivationKind::Silu,
    multipliers: false,
    scaled_embeddings: false,
    query_scalar: None,
    soft_caps: None,
    mixture: None,
    tensors: TENSORS,
};

/// OLMo 2: norms behind the projections, and of q and k as wholes.
const OLMO: Family = Family {
    architecture: Architecture::Olmo2,
    classes: &["Olmo2ForCausalLM"],
    model_type: "olmo2",
    own_fields: &["attention_bias"],
    rms_norm_eps: 1e-5,
    norm_place: NormPlace::After,
    biases: BiasPage { mlp: Bias::Never, ..PLAIN.biases },
    qk_norm: Some(QkNormWidth::Row),
    rope: RopePage { theta: 500_000.0, ..ROPE },
    tensors: TensorPage { names: &NORMS_BEHIND, ..TENSORS },
    ..PLAIN
};

/// Gemma 2: norms before and behind, whose files store their weights' distance from one.
const GEMMA: Family = Family {
    architecture: Architecture::Gemma2,
    classes: &["Gemma2ForCausalLM"],
    model_type: "gemma2",
    own_fields: &[
        "attention_bias",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "hidden_activation",
        "query_pre_attn_scalar",
        "rms_norm_offset",
    ],
    renames: &[("hidden_act", "hidden_activation")],
    kv_heads: Some(4),
    head_dim: Some(256),
    windows: true,
    window: Some(4096),
    window_pattern: Some(2),
    norm_offset: 1.0,
    norm_place: NormPlace::Both,
    tied: true,
    biases: BiasPage { mlp: Bias::Never, ..PLAIN.biases },
    activation: ActivationKind::GeluTanh,
    scaled_embeddings: true,
    query_scalar: Some(256.0),
    soft_caps: Some(SoftCapPage { scores: Some(50.0), logits: Some(30.0) }),
    tensors: TensorPage { names: &NORMS_AROUND, ..TENSORS },
    ..PLAIN
};

pub(super) static DENSE: [Family; 17] = [
    PLAIN,
    Family {
        architecture: Architecture::Mistral,
        classes: &["MistralForCausalLM"],
        model_type: "mistral",
        own_fields: &[],
        kv_heads: Some(8),
        windows: true,
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
        windows: true,
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
        windows: true,
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
        windows: true,
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
        windows: true,
        own_fields: &[],
        rms_norm_eps: 1e-5,
        // What it calls yarn is another thing.
        rope: RopePage { yarn: false, partial: true, long: true, ..ROPE },
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
        windows: true,
        own_fields: &["attention_bias", "mlp_bias", "no_rope_layer_interval", "no_rope_layers"],
        kv_heads: Some(4),
        window_by_flag: true,
        rope: RopePage { theta: 2_000_000.0, unrotated_interval: Some(4), ..ROPE },
        tied: true,
        ..PLAIN
    },
    Family {
        architecture: Architecture::Ministral,
        classes: &["MinistralForCausalLM"],
        model_type: "ministral",
        own_fields: &[],
        kv_heads: Some(8),
        windows: true,
        window: Some(4096),
        biases: NO_BIASES,
        ..PLAIN
    },
    OLMO,
    Family {
        architecture: Architecture::Olmo3,
        classes: &["Olmo3ForCausalLM"],
        model_type: "olmo3",
        windows: true,
        window: Some(4096),
        window_pattern: Some(4),
        rope: RopePage { windowed: WindowedRope::Unscaled, ..OLMO.rope },
        ..OLMO
    },
    GEMMA,
    Family {
        architecture: Architecture::Gemma3,
        classes: &["Gemma3ForCausalLM"],
        model_type: "gemma3_text",
        own_fields: &[
            "attention_bias",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "hidden_activation",
            "query_pre_attn_scalar",
            "rms_norm_offset",
            "rope_local_base_freq",
            "sliding_window_pattern",
        ],
        window_pattern: Some(6),
        qk_norm: Some(QkNormWidth::Head),
        rope: RopePage {
            theta: 1_000_000.0,
            windowed: WindowedRope::Own { field: "rope_local_base_freq", theta: 10_000.0 },
            ..ROPE
        },
        soft_caps: Some(SoftCapPage { scores: None, logits: None }),
        ..GEMMA
    },
];
