//! Configs as their makers publish them: each with every field of the file, its context and its size.

use lime_model::ModelConfig;
use lime_plan::Architecture;
use serde_json::{Value, json};

/// Fields that all of these have.
fn with(own: Value) -> String {
    let mut config = json!({
        "attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.02, "rms_norm_eps": 1e-05, "use_cache": true,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16", "transformers_version": "4.47.0",
        "tie_word_embeddings": false
    });
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    config.to_string()
}

/// Family, context, parameters in units of ten millions, and what of the config needs a remark.
fn check(own: Value, (family, context, size): (Architecture, usize, u64), remark: Option<&str>) {
    let config = ModelConfig::parse(&with(own)).unwrap();
    let parameters = (config.card("").parameters as f64 / 1e7).round() as u64;
    assert_eq!((config.architecture, config.context, parameters), (family, context, size));
    match (config.remarks.as_slice(), remark) {
        ([], None) => {}
        ([found], Some(remark)) => assert!(found.contains(remark), "{found}"),
        (found, _) => panic!("{found:?}"),
    }
}

#[test]
fn of_families_that_transformers_has_long_known() {
    check(
        json!({
            "architectures": ["LlamaForCausalLM"], "attention_bias": false, "hidden_size": 576, "intermediate_size": 1536,
            "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
            "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pad_token_id": 2, "pretraining_tp": 1,
            "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "vocab_size": 49152
        }),
        (Architecture::Llama, 8192, 13),
        None,
    );
    check(
        json!({
            "architectures": ["MistralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
            "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
            "num_key_value_heads": 8, "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 32000
        }),
        (Architecture::Mistral, 32768, 724),
        None,
    );
    check(
        json!({
            "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 18944,
            "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
            "sliding_window": 131072, "use_sliding_window": false, "vocab_size": 152064
        }),
        (Architecture::Qwen2, 131_072, 762),
        Some("YaRN"),
    );
    check(
        json!({
            "_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"], "attention_bias": false,
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
            "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_size": 3072, "intermediate_size": 8192,
            "max_position_embeddings": 4096, "model_type": "phi3", "num_attention_heads": 32, "num_hidden_layers": 32,
            "num_key_value_heads": 32, "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0,
            "rope_scaling": null, "rope_theta": 10000.0, "sliding_window": 2047, "vocab_size": 32064
        }),
        (Architecture::Phi3, 4096, 382),
        None,
    );
    check(
        json!({
            "_name_or_path": "microsoft/phi-4", "architectures": ["Phi3ForCausalLM"], "attention_bias": false,
            "bos_token_id": 100257, "embd_pdrop": 0.0, "eos_token_id": 100265, "hidden_size": 5120, "intermediate_size": 17920,
            "max_position_embeddings": 16384, "model_type": "phi3", "num_attention_heads": 40, "num_hidden_layers": 40,
            "num_key_value_heads": 10, "original_max_position_embeddings": 16384, "pad_token_id": 100349, "resid_pdrop": 0.0,
            "rope_scaling": null, "rope_theta": 250000, "sliding_window": null, "vocab_size": 100352
        }),
        (Architecture::Phi3, 16384, 1466),
        None,
    );
}

#[test]
fn of_families_with_names_of_their_own() {
    check(
        json!({
            "activation_function": "silu", "architectures": ["ExaoneForCausalLM"],
            "auto_map": {
                "AutoConfig": "configuration_exaone.ExaoneConfig", "AutoModelForCausalLM": "modeling_exaone.ExaoneForCausalLM",
                "AutoModelForSequenceClassification": "modeling_exaone.ExaoneForSequenceClassification"
            },
            "embed_dropout": 0.0, "eos_token_id": 361, "head_dim": 80, "hidden_size": 2560, "intermediate_size": 7168,
            "layer_norm_epsilon": 1e-05, "max_position_embeddings": 32768, "model_type": "exaone", "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_layers": 30, "pad_token_id": 0, "rope_theta": 1000000,
            "rope_scaling": {
                "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
                "rope_type": "llama3"
            },
            "tie_word_embeddings": true, "vocab_size": 102400
        }),
        (Architecture::Exaone, 32768, 241),
        None,
    );
    check(
        json!({
            "architectures": ["InternLM3ForCausalLM"],
            "auto_map": {
                "AutoConfig": "configuration_internlm3.InternLM3Config", "AutoModel": "modeling_internlm3.InternLM3Model",
                "AutoModelForCausalLM": "modeling_internlm3.InternLM3ForCausalLM"
            },
            "bias": false, "head_dim": 128, "hidden_size": 4096, "intermediate_size": 10240, "max_position_embeddings": 32768,
            "model_type": "internlm3", "num_attention_heads": 32, "num_hidden_layers": 48, "num_key_value_heads": 2,
            "pad_token_id": 2, "qkv_bias": false, "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"},
            "rope_theta": 50000000, "vocab_size": 128512
        }),
        (Architecture::InternLm3, 32768, 880),
        Some("dynamic"),
    );
    check(
        json!({
            "architectures": ["SeedOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.1,
            "attention_out_bias": false, "head_dim": 128, "hidden_size": 5120, "intermediate_size": 27648,
            "max_position_embeddings": 524288, "mlp_bias": false, "model_type": "seed_oss", "num_attention_heads": 80,
            "num_hidden_layers": 64, "num_key_value_heads": 8, "pad_token_id": 1, "residual_dropout": 0.1,
            "rms_norm_eps": 1e-06, "rope_scaling": {"rope_type": "default"}, "rope_theta": 10000000.0, "vocab_size": 155136
        }),
        (Architecture::SeedOss, 524_288, 3615),
        None,
    );
    check(
        json!({
            "architectures": ["Ernie4_5ForCausalLM"], "head_dim": 128, "hidden_size": 1024, "intermediate_size": 3072,
            "max_position_embeddings": 131072, "model_type": "ernie4_5", "num_attention_heads": 16, "num_hidden_layers": 18,
            "num_key_value_heads": 2, "pad_token_id": 0, "rope_theta": 500000, "tie_word_embeddings": true, "use_bias": false,
            "vocab_size": 103424
        }),
        (Architecture::Ernie45, 131_072, 36),
        None,
    );
}

#[test]
fn of_families_that_scale_or_leave_rotation_out() {
    check(
        json!({
            "architectures": ["GraniteForCausalLM"], "attention_bias": false, "attention_multiplier": 0.0078125, "bos_token_id": 0,
            "embedding_multiplier": 12.0, "eos_token_id": 0, "hidden_size": 4096, "intermediate_size": 12800,
            "logits_scaling": 16.0, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "granite",
            "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8, "pad_token_id": 0,
            "residual_multiplier": 0.22, "rope_scaling": null, "rope_theta": 10000000.0, "tie_word_embeddings": true,
            "vocab_size": 49159
        }),
        (Architecture::Granite, 131_072, 817),
        None,
    );
    let rotates: Vec<u32> = (1..=36).map(|layer| u32::from(layer % 4 != 0)).collect();
    check(
        json!({
            "architectures": ["SmolLM3ForCausalLM"], "attention_bias": false, "bos_token_id": null, "eos_token_id": 128012,
            "hidden_size": 2048, "intermediate_size": 11008, "layer_types": vec!["full_attention"; 36],
            "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false, "model_type": "smollm3",
            "no_rope_layer_interval": 4, "no_rope_layers": rotates, "num_attention_heads": 16, "num_hidden_layers": 36,
            "num_key_value_heads": 4, "pad_token_id": 128004, "pretraining_tp": 2, "rms_norm_eps": 1e-06, "rope_scaling": null,
            "rope_theta": 5000000.0, "sliding_window": null, "tie_word_embeddings": true, "use_sliding_window": false,
            "vocab_size": 128256
        }),
        (Architecture::SmolLm3, 65536, 308),
        None,
    );
}

#[test]
fn of_families_with_windows_and_norms_of_their_own() {
    check(
        json!({
            "architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": 50.0, "bos_token_id": 2,
            "cache_implementation": "hybrid", "eos_token_id": [1, 107], "final_logit_softcapping": 30.0, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304,
            "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
            "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": true, "vocab_size": 256000
        }),
        (Architecture::Gemma2, 8192, 261),
        None,
    );
    check(
        json!({
            "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": null, "bos_token_id": 2,
            "cache_implementation": "hybrid", "eos_token_id": [1, 106], "final_logit_softcapping": null, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
            "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
            "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1000000,
            "sliding_window": 512, "sliding_window_pattern": 6, "tie_word_embeddings": true, "vocab_size": 262144
        }),
        (Architecture::Gemma3, 32768, 100),
        None,
    );
    check(
        json!({
            "architectures": ["Olmo2ForCausalLM"], "attention_bias": false, "eos_token_id": 100257, "hidden_size": 4096,
            "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "olmo2", "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 32, "pad_token_id": 100277, "rms_norm_eps": 1e-06,
            "rope_scaling": null, "rope_theta": 500000, "vocab_size": 100352
        }),
        (Architecture::Olmo2, 4096, 730),
        None,
    );
    let kinds: Vec<&str> =
        (1..=32).map(|layer| if layer % 4 == 0 { "full_attention" } else { "sliding_attention" }).collect();
    check(
        json!({
            "architectures": ["Olmo3ForCausalLM"], "attention_bias": false, "eos_token_id": 100257, "hidden_size": 4096,
            "intermediate_size": 11008, "layer_types": kinds, "max_position_embeddings": 65536, "model_type": "olmo3",
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pad_token_id": 100277,
            "rms_norm_eps": 1e-06, "rope_scaling": {
                "attention_factor": 1.2079441541679836, "beta_fast": 32, "beta_slow": 1, "factor": 8.0,
                "original_max_position_embeddings": 8192, "rope_type": "yarn"
            }, "rope_theta": 500000, "sliding_window": 4096, "vocab_size": 100278
        }),
        (Architecture::Olmo3, 65536, 730),
        None,
    );
    let (short, long) = (vec![1.0; 48], vec![1.5; 48]);
    check(
        json!({
            "architectures": ["Phi3ForCausalLM"], "attention_bias": false,
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
            "bos_token_id": 199999, "embd_pdrop": 0.0, "eos_token_id": 199999, "hidden_size": 3072, "intermediate_size": 8192,
            "max_position_embeddings": 131072, "model_type": "phi3", "num_attention_heads": 24, "num_hidden_layers": 32,
            "num_key_value_heads": 8, "original_max_position_embeddings": 4096, "pad_token_id": 199999,
            "partial_rotary_factor": 0.75, "resid_pdrop": 0.0, "rope_scaling": {
                "long_factor": long, "short_factor": short, "type": "longrope"
            }, "rope_theta": 10000.0, "sliding_window": 262144, "tie_word_embeddings": true, "vocab_size": 200064
        }),
        (Architecture::Phi3, 4096, 384),
        Some("long_factor"),
    );
}

#[test]
fn of_mixtures() {
    check(
        json!({
            "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "bos_token_id": 151643,
            "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_size": 2048, "intermediate_size": 6144,
            "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
            "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128,
            "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": false,
            "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
            "sliding_window": null, "use_sliding_window": false, "vocab_size": 151936
        }),
        (Architecture::Qwen3Moe, 40960, 3053),
        None,
    );
    check(
        json!({
            "architectures": ["OlmoeForCausalLM"], "attention_bias": false, "clip_qkv": null, "eos_token_id": 50279,
            "hidden_size": 2048, "intermediate_size": 1024, "max_position_embeddings": 4096, "model_type": "olmoe",
            "norm_topk_prob": false, "num_attention_heads": 16, "num_experts": 64, "num_experts_per_tok": 8,
            "num_hidden_layers": 16, "num_key_value_heads": 16, "output_router_logits": false, "pad_token_id": 1,
            "rope_scaling": null, "rope_theta": 10000.0, "router_aux_loss_coef": 0.01, "vocab_size": 50304
        }),
        (Architecture::OlMoe, 4096, 692),
        None,
    );
    check(
        json!({
            "architectures": ["MixtralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
            "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": false,
            "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": null, "vocab_size": 32000
        }),
        (Architecture::Mixtral, 32768, 4670),
        None,
    );
    check(
        json!({
            "architectures": ["GraniteMoeForCausalLM"], "attention_bias": false, "attention_multiplier": 0.015625,
            "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0, "hidden_size": 1024, "intermediate_size": 512,
            "logits_scaling": 6.0, "max_position_embeddings": 131072, "model_type": "granitemoe", "num_attention_heads": 16,
            "num_experts_per_tok": 8, "num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32,
            "output_router_logits": false, "pad_token_id": 0, "residual_multiplier": 0.22, "rms_norm_eps": 1e-06,
            "rope_scaling": null, "rope_theta": 10000000, "router_aux_loss_coef": 0.0, "tie_word_embeddings": true,
            "vocab_size": 49155
        }),
        (Architecture::GraniteMoe, 131_072, 133),
        None,
    );
}
