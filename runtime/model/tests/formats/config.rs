//! `config.json`: defaults, both forms, and every kind of refusal.

use lime_model::{
    ActivationKind, AttentionSpec, Formats, HalfSpec, LayerSpec, LogitsSpec, MlpSpec, ModelConfig, ModelSpec, NormSpec,
    RopeConfig, RopeScaling, RopeSpec,
};
use lime_plan::{Architecture, Dtype, Format};
use serde_json::{Value, json};

use crate::places::{fixture, read, shared};

fn smallest(architecture: &str) -> Value {
    json!({
        "architectures": [architecture], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 128,
        "dtype": "bfloat16", "sliding_window": null,
    })
}

fn with(architecture: &str, changes: Value) -> String {
    let mut config = smallest(architecture);
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    config.to_string()
}

fn without(field: &str) -> String {
    let mut config = smallest("LlamaForCausalLM");
    config.as_object_mut().unwrap().remove(field);
    config.to_string()
}

fn refusal(json: &str) -> String {
    ModelConfig::parse(json).unwrap_err().to_string()
}

#[test]
fn the_bundled_models_config_reads_as_it_is() {
    let config = ModelConfig::load(&fixture("models/bard-2m")).unwrap();
    let half = HalfSpec::after(NormSpec::rms(1e-5));
    let rope = RopeConfig { theta: 10_000.0, scaling: RopeScaling::Default };
    let attention = AttentionSpec {
        half,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        qkv_bias: false,
        o_bias: false,
        qk_norm: None,
        rope: Some(RopeSpec { config: rope, width: 32 }),
        window: None,
        scale: None,
        soft_cap: None,
    };
    let mlp = MlpSpec { half, width: 352, activation: ActivationKind::Silu, bias: false, mixture: None };
    let layer = LayerSpec { attention, mlp };
    let expected = ModelConfig {
        architecture: Architecture::Llama,
        hidden: 128,
        intermediate: 352,
        layers: 12,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        vocabulary: 1024,
        context: 512,
        tied: true,
        encoding: lime_plan::Encoding::Raw,
        formats: Formats::all(Format::Bf16),
        spec: ModelSpec {
            embedding_multiplier: 1.0,
            layers: vec![layer; 12],
            final_norm: NormSpec::rms(1e-5),
            logits: LogitsSpec { multiplier: 1.0, soft_cap: None },
        },
        bos: Some(0),
        eos: vec![1],
        remarks: vec![],
    };
    assert_eq!(config, expected);
}

#[test]
fn defaults_are_those_of_transformers() {
    let llama = ModelConfig::parse(&with("LlamaForCausalLM", json!({}))).unwrap();
    assert_eq!((llama.tied, llama.head_dim), (false, 16));
    assert_eq!(llama.spec.ropes(), [&RopeSpec { config: RopeConfig::plain(1e4), width: 16 }]);
    assert_eq!(llama.spec.final_norm, NormSpec::rms(1e-6));
    let multi_head = ModelConfig::parse(&without("num_key_value_heads")).unwrap();
    assert_eq!(multi_head.kv_heads, 4);
    let explicit = ModelConfig::parse(&with("MistralForCausalLM", json!({"num_key_value_heads": null}))).unwrap();
    assert_eq!(explicit.kv_heads, 4);
    let qwen3 = ModelConfig::parse(&with("Qwen3ForCausalLM", json!({}))).unwrap();
    assert_eq!(qwen3.head_dim, 128);
    let old = with("LlamaForCausalLM", json!({"dtype": null, "torch_dtype": "float16", "eos_token_id": [7, 8]}));
    let old = ModelConfig::parse(&old).unwrap();
    assert_eq!((old.dtype(), old.eos, old.bos), (Dtype::F16, vec![7, 8], None));
    let by_type = with("LlamaForCausalLM", json!({"architectures": null, "model_type": "qwen2"}));
    assert_eq!(ModelConfig::parse(&by_type).unwrap().architecture, Architecture::Qwen2);
}

#[test]
fn biases_and_norms_follow_the_family() {
    let kinds = |architecture: &str, fields: Value| {
        let config = ModelConfig::parse(&with(architecture, fields)).unwrap();
        let LayerSpec { attention, mlp } = &config.spec.layers[0];
        (attention.qkv_bias, attention.o_bias, mlp.bias, attention.qk_norm.is_some())
    };
    let both = |biased: bool| json!({"attention_bias": biased, "mlp_bias": biased});
    let attention = json!({"attention_bias": true});
    assert_eq!(kinds("LlamaForCausalLM", both(false)), (false, false, false, false));
    assert_eq!(kinds("LlamaForCausalLM", both(true)), (true, true, true, false));
    assert_eq!(kinds("MistralForCausalLM", both(false)), (false, false, false, false));
    assert_eq!(kinds("Qwen2ForCausalLM", both(false)), (true, false, false, false));
    assert_eq!(kinds("Qwen2ForCausalLM", attention.clone()), (true, false, false, false));
    assert_eq!(kinds("Qwen3ForCausalLM", both(false)), (false, false, false, true));
    assert_eq!(kinds("Qwen3ForCausalLM", attention), (true, true, false, true));
    assert_eq!(kinds("SeedOssForCausalLM", json!({})), (true, false, false, false));
    assert_eq!(kinds("SeedOssForCausalLM", json!({"attention_out_bias": true})), (true, true, false, false));
    assert_eq!(kinds("InternLM3ForCausalLM", json!({"qkv_bias": true, "bias": false})), (true, false, false, false));
    assert_eq!(kinds("InternLM3ForCausalLM", json!({"bias": true})), (false, true, true, false));
    assert_eq!(kinds("ExaoneForCausalLM", both(false)), (false, false, false, false));
    // Families that have no such biases have no place for them.
    for (architecture, field) in [
        ("MistralForCausalLM", "attention_bias"),
        ("Qwen2ForCausalLM", "mlp_bias"),
        ("Qwen3ForCausalLM", "mlp_bias"),
        ("Phi3ForCausalLM", "attention_bias"),
        ("Ernie4_5ForCausalLM", "use_bias"),
    ] {
        let message = refusal(&with(architecture, json!({field: true})));
        assert!(message.contains(&format!("{field:?} is true, this build computes false alone")), "{message}");
    }
}

/// The context, and what is said of it.
fn reach(architecture: &str, fields: Value) -> (usize, Vec<String>) {
    let config = ModelConfig::parse(&with(architecture, fields)).unwrap();
    (config.context, config.remarks)
}

/// The windows of a model's layers, and its context.
fn windows(architecture: &str, fields: Value) -> (Vec<Option<usize>>, usize) {
    let config = ModelConfig::parse(&with(architecture, fields)).unwrap();
    (config.spec.layers.iter().map(|layer| layer.attention.window).collect(), config.context)
}

#[test]
fn layers_have_windows_where_they_are_in_force() {
    let none = (vec![None, None], 128);
    let both = (vec![Some(16), Some(16)], 128);
    let second = (vec![None, Some(16)], 128);
    assert_eq!(windows("MistralForCausalLM", json!({"sliding_window": 128})), none);
    for family in ["MistralForCausalLM", "MinistralForCausalLM", "Phi3ForCausalLM", "MixtralForCausalLM"] {
        assert_eq!(windows(family, json!({"sliding_window": 16})), both, "{family}");
    }
    assert_eq!(windows("Qwen2ForCausalLM", json!({"sliding_window": 16, "use_sliding_window": false})), none);
    let used = json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1});
    assert_eq!(windows("Qwen2ForCausalLM", used.clone()), second);
    assert_eq!(windows("Qwen3ForCausalLM", used.clone()), second);
    let mut mixture = used;
    mixture["moe_intermediate_size"] = json!(8);
    assert_eq!(windows("Qwen3MoeForCausalLM", mixture), both);
    let beyond = json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 2});
    assert_eq!(windows("Qwen2ForCausalLM", beyond), none);
    let kinds = |one: &str, window: Value| json!({"layer_types": ["full_attention", one], "sliding_window": window});
    assert_eq!(windows("Qwen3ForCausalLM", kinds("full_attention", json!(16))), none);
    for family in ["Qwen3ForCausalLM", "Olmo3ForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"] {
        assert_eq!(windows(family, kinds("sliding_attention", json!(16))), second, "{family}");
    }
    assert!(refusal(&with("Qwen3ForCausalLM", kinds("sliding_attention", json!(null)))).contains("not given"));
    assert!(refusal(&with("Qwen3ForCausalLM", kinds("linear_attention", json!(16)))).contains("linear_attention"));
    let short = json!({"layer_types": ["full_attention"]});
    assert!(refusal(&with("Qwen3ForCausalLM", short)).contains("1 entries for 2 layers"));
    // Left out, the window is 4096, as transformers has it.
    let mut config = smallest("MistralForCausalLM");
    config.as_object_mut().unwrap().remove("sliding_window");
    let window = |config: &Value| {
        let config = ModelConfig::parse(&config.to_string()).unwrap();
        (config.spec.layers[0].attention.window, config.context)
    };
    assert_eq!(window(&config), (None, 128));
    config["max_position_embeddings"] = json!(32768);
    assert_eq!(window(&config), (Some(4096), 32768));
}

#[test]
fn patterns_say_which_layers_look_back_to_the_start() {
    let full = |architecture: &str, fields: Value| {
        let (windows, _) = windows(architecture, fields);
        windows.iter().enumerate().filter(|(_, window)| window.is_none()).map(|(layer, _)| layer).collect::<Vec<_>>()
    };
    let eight = || json!({"num_hidden_layers": 8, "sliding_window": 16});
    assert_eq!(full("Gemma2ForCausalLM", eight()), [1, 3, 5, 7]);
    assert_eq!(full("Olmo3ForCausalLM", eight()), [3, 7]);
    assert_eq!(full("Gemma3ForCausalLM", eight()), [5]);
    let mut third = eight();
    third["sliding_window_pattern"] = json!(3);
    assert_eq!(full("Gemma3ForCausalLM", third.clone()), [2, 5]);
    assert!(refusal(&with("Gemma2ForCausalLM", third)).contains("sliding_window_pattern"));
}

/// transformers passes over windows in these families; whether their makers meant one is not known.
#[test]
fn windows_end_the_context_of_families_that_have_none() {
    let (capped, said) = reach("LlamaForCausalLM", json!({"sliding_window": 16}));
    assert_eq!(capped, 16);
    assert!(said[0].contains("\"sliding_window\": 16") && said[0].contains("16 of 128"), "{said:?}");
    assert_eq!(reach("LlamaForCausalLM", json!({"sliding_window": 128})).0, 128);
    assert_eq!(windows("LlamaForCausalLM", json!({"sliding_window": 16})).0, [None, None]);
}

#[test]
fn ropes_that_change_with_the_text_end_the_context_where_they_do() {
    let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}});
    let (context, said) = reach("LlamaForCausalLM", dynamic);
    assert!(context == 128 && said[0].contains("\"dynamic\""), "{context} {said:?}");
    let early = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64}});
    assert_eq!(reach("LlamaForCausalLM", early).0, 64);
    let warm = |beta: f64| {
        json!({"rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 2.0, "original_max_position_embeddings": 64,
            "llama_4_scaling_beta": beta, "max_position_embeddings": 128
        }})
    };
    assert_eq!(reach("Ministral3ForCausalLM", warm(0.0)), (128, vec![]));
    let (context, said) = reach("Ministral3ForCausalLM", warm(0.1));
    assert!(context == 64 && said[0].contains("llama_4_scaling_beta"), "{context} {said:?}");
    assert!(refusal(&with("Ministral3ForCausalLM", json!({}))).contains("\"rope_parameters\" is missing"));
}

#[test]
fn yarn_stretches_the_context_as_the_cards_of_its_models_say() {
    let yarn = |more: Value| {
        let mut rope = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128});
        rope.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"rope_scaling": rope})
    };
    let (context, said) = reach("Qwen2ForCausalLM", yarn(json!({})));
    assert!(context == 512 && said[0].contains("the context is 512, not the 128"), "{context} {said:?}");
    // The context that is given already counts the factor.
    let mut counted = yarn(json!({}));
    counted["max_position_embeddings"] = json!(512);
    assert_eq!(reach("Qwen2ForCausalLM", counted), (512, vec![]));
    let factor = |more: Value| {
        let config = ModelConfig::parse(&with("Qwen2ForCausalLM", yarn(more))).unwrap();
        config.spec.ropes()[0].config.inverse_frequencies(16, 128).1
    };
    let plain = 0.1 * 4f64.ln() + 1.0;
    assert!((factor(json!({})) - plain).abs() < 1e-12);
    assert!((factor(json!({"attn_factor": 0.5})) - plain / 2.0).abs() < 1e-12);
    assert!((factor(json!({"attention_factor": 0.5})) - 0.5).abs() < 1e-12);
    let twice = with("Qwen2ForCausalLM", yarn(json!({"attention_factor": 0.5, "attn_factor": 0.5})));
    assert!(refusal(&twice).contains("twice"));
    let said = reach("Qwen2ForCausalLM", yarn(json!({"attn_factor": 0.5}))).1;
    assert!(said.iter().any(|remark| remark.contains("\"attn_factor\" 0.5 is obeyed")), "{said:?}");
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let llama = |fields: Value| refusal(&with("LlamaForCausalLM", fields));
    let cases = [
        (refusal(&with("JetMoeForCausalLM", json!({}))), "\"JetMoeForCausalLM\" is not supported"),
        (refusal(&with("Qwen2ForSequenceClassification", json!({}))), "LlamaForCausalLM, MistralForCausalLM"),
        (llama(json!({"architectures": null, "model_type": "gpt2"})), "model type \"gpt2\""),
        (llama(json!({"architectures": null})), "neither \"architectures\" nor \"model_type\""),
        (llama(json!({"quantization_config": {"quant_method": "gptq"}})), "\"gptq\""),
        (llama(json!({"hidden_act": "gelu"})), "\"gelu\""),
        (llama(json!({"dtype": "float64"})), "\"float64\""),
        (llama(json!({"quantization": {"bits": 4}})), "quantized"),
        (llama(json!({"rope_scaling": {"type": "dynamic"}})), "rope type \"dynamic\" needs"),
        (llama(json!({"rope_scaling": {"type": "yarn", "factor": 2.0, "mscaling": 3}})), "\"mscaling\" (3)"),
        (llama(json!({"rope_scaling": {"type": "linear", "factor": 2.0, "attn_factor": 3}})), "\"attn_factor\" (3)"),
        // What Phi-3's first files call yarn is longrope.
        (refusal(&with("Phi3ForCausalLM", json!({"rope_scaling": {"type": "yarn"}}))), "rope type \"longrope\" needs"),
        (llama(json!({"rope_parameters": {"rope_type": "longrope"}})), "rope type \"longrope\""),
        (llama(json!({"rope_scaling": {"type": "linear"}})), "needs the field \"factor\""),
        (llama(json!({"rope_scaling": {"type": "linear", "factor": 0}})), "\"factor\" must be"),
        (llama(json!({"partial_rotary_factor": 0.5})), "partial_rotary_factor"),
        (llama(json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}})), "full_attention"),
    ];
    for (message, part) in cases {
        assert!(
            message.starts_with("config.json: ") && message.contains(part),
            "{message:?} does not contain {part:?}"
        );
    }
}

#[test]
fn a_config_without_a_dtype_says_what_is_assumed() {
    for dtype in [json!(null), json!("auto")] {
        let config = ModelConfig::parse(&with("LlamaForCausalLM", json!({"dtype": dtype}))).unwrap();
        assert_eq!(config.dtype(), Dtype::Bf16);
        assert!(config.remarks[0].contains("bf16 is assumed"), "{:?}", config.remarks);
    }
}

#[test]
fn missing_fields_are_named() {
    for field in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ] {
        let message = refusal(&without(field));
        assert!(message.contains(&format!("{field:?} is missing")), "{message}");
    }
}

#[test]
fn numbers_out_of_range_are_named() {
    for (field, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-64)),
        ("hidden_size", json!(64.5)),
        ("hidden_size", json!("64")),
        ("hidden_size", json!(u64::MAX)),
        ("num_hidden_layers", json!(5_000_000)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(0)),
        ("head_dim", json!(15)),
        ("head_dim", json!(1_000_000)),
        ("vocab_size", json!(1u64 << 40)),
        ("max_position_embeddings", json!(1u64 << 60)),
        ("rms_norm_eps", json!(-1.0)),
        ("rope_theta", json!(0)),
        ("eos_token_id", json!(-1)),
        ("eos_token_id", json!(["x"])),
        ("tie_word_embeddings", json!("yes")),
        ("architectures", json!("LlamaForCausalLM")),
    ] {
        let message = refusal(&with("LlamaForCausalLM", json!({field: value})));
        assert!(message.contains(&format!("{field:?}")), "{field} = {value}: {message}");
    }
    let indivisible = refusal(&with("LlamaForCausalLM", json!({"hidden_size": 66})));
    assert!(indivisible.contains("no multiple"), "{indivisible}");
}

#[test]
fn a_file_that_is_no_config_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let fault = ModelConfig::load(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("config.json is missing"), "{fault}");
    for text in ["", "{", "[]", "null", "\u{0}", "{\"a\": 1} trailing"] {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let fault = ModelConfig::load(folder.path()).unwrap_err().to_string();
        assert!(fault.contains("config.json: "), "{fault}");
    }
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    std::fs::create_dir(folder.path().join("config.json")).unwrap();
    assert!(ModelConfig::load(folder.path()).unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn real_configs_are_read_or_refused() {
    let Some(configs) = shared("configs") else { return };
    for entry in std::fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        let parsed = ModelConfig::parse(&read(path.join("config.json")));
        if path.ends_with("llama-3.1-8b-bnb-int8") {
            assert!(parsed.unwrap_err().to_string().contains("\"bitsandbytes\""));
        } else {
            parsed.unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        }
    }
}
