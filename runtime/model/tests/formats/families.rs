//! Which configs are of which family, and that nothing in them which might change the sums is passed over.

use lime_model::{
    ActivationKind, ExpertWeights, LayerSpec, MixtureSpec, ModelConfig, NormPlace, RopeConfig, RopeScaling, SharedSpec,
};
use lime_plan::Architecture;
use serde_json::{Value, json};

fn config(changes: Value) -> String {
    let mut config = json!({
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 100, "max_position_embeddings": 128, "dtype": "bfloat16", "head_dim": 16, "sliding_window": null,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    config.to_string()
}

fn refusal(changes: Value) -> String {
    ModelConfig::parse(&config(changes)).unwrap_err().to_string()
}

#[test]
fn each_family_answers_to_its_names() {
    use Architecture::{
        Ernie45, Exaone, Gemma2, Gemma3, Granite, GraniteMoe, GraniteMoeShared, InternLm3, Llama, Ministral,
        Ministral3, Mistral, Mixtral, OlMoe, Olmo2, Olmo3, Phi3, Qwen2, Qwen2Moe, Qwen3, Qwen3Moe, SeedOss, SmolLm3,
    };
    for (class, model_type, expected) in [
        ("LlamaForCausalLM", "llama", Llama),
        ("MistralForCausalLM", "mistral", Mistral),
        ("Qwen2ForCausalLM", "qwen2", Qwen2),
        ("Qwen3ForCausalLM", "qwen3", Qwen3),
        ("SeedOssForCausalLM", "seed_oss", SeedOss),
        ("Ministral3ForCausalLM", "ministral3", Ministral3),
        ("InternLM3ForCausalLM", "internlm3", InternLm3),
        ("ExaoneForCausalLM", "exaone", Exaone),
        ("Phi3ForCausalLM", "phi3", Phi3),
        ("Ernie4_5ForCausalLM", "ernie4_5", Ernie45),
        ("GraniteForCausalLM", "granite", Granite),
        ("SmolLM3ForCausalLM", "smollm3", SmolLm3),
        ("MinistralForCausalLM", "ministral", Ministral),
        ("Olmo2ForCausalLM", "olmo2", Olmo2),
        ("Olmo3ForCausalLM", "olmo3", Olmo3),
        ("Gemma2ForCausalLM", "gemma2", Gemma2),
        ("Gemma3ForCausalLM", "gemma3_text", Gemma3),
        ("Qwen3MoeForCausalLM", "qwen3_moe", Qwen3Moe),
        ("Qwen2MoeForCausalLM", "qwen2_moe", Qwen2Moe),
        ("OlmoeForCausalLM", "olmoe", OlMoe),
        ("MixtralForCausalLM", "mixtral", Mixtral),
        ("GraniteMoeForCausalLM", "granitemoe", GraniteMoe),
        ("GraniteMoeSharedForCausalLM", "granitemoeshared", GraniteMoeShared),
    ] {
        for mut names in [
            json!({"architectures": [class]}),
            json!({"model_type": model_type}),
            json!({"architectures": [class], "model_type": model_type}),
            json!({"architectures": [], "model_type": model_type}),
        ] {
            if matches!(expected, Qwen2Moe | Qwen3Moe) {
                names["moe_intermediate_size"] = json!(32);
            }
            let found = ModelConfig::parse(&config(names.clone())).unwrap().architecture;
            assert_eq!(found, expected, "{names}");
        }
    }
    // As transformers 5 saves them: computed by its Llama.
    for (model_type, expected) in [("internlm3", InternLm3), ("exaone", Exaone)] {
        let names = json!({"architectures": ["LlamaForCausalLM"], "model_type": model_type});
        assert_eq!(ModelConfig::parse(&config(names)).unwrap().architecture, expected);
    }
}

#[test]
fn names_that_contradict_each_other_are_refused() {
    for (class, model_type) in [
        ("LlamaForCausalLM", "granite"),
        ("LlamaForCausalLM", "smollm3"),
        ("LlamaForCausalLM", "mistral"),
        ("LlamaForCausalLM", "qwen2"),
        ("MistralForCausalLM", "llama"),
        ("Qwen2ForCausalLM", "qwen3"),
    ] {
        let message = refusal(json!({"architectures": [class], "model_type": model_type}));
        assert!(message.contains(&format!("{class:?} and \"model_type\" {model_type:?}")), "{message}");
    }
}

#[test]
fn fields_that_may_change_the_sums_are_refused_by_name_and_value() {
    let llama = |name: &str, value: &Value| json!({"architectures": ["LlamaForCausalLM"], name: value});
    for (name, value, expected) in [
        ("is_causal", json!(false), "\"is_causal\" is false, this build computes true alone"),
        ("residual_multiplier", json!(0.22), "\"residual_multiplier\" is 0.22, this build computes 1 alone"),
        ("logits_scaling", json!(8.0), "\"logits_scaling\" is 8.0"),
        ("embedding_multiplier", json!(12), "\"embedding_multiplier\" is 12"),
        ("attention_multiplier", json!(0.01), "\"attention_multiplier\" is 0.01"),
        ("no_rope_layers", json!([1, 0]), "\"no_rope_layers\" is a list"),
        ("final_logit_softcapping", json!(30.0), "\"final_logit_softcapping\" is 30.0"),
        ("num_local_experts", json!(8), "\"num_local_experts\" is 8"),
        ("use_qk_norm", json!(true), "\"use_qk_norm\" is true"),
        ("a_field_of_tomorrow", json!("x"), "\"a_field_of_tomorrow\" (\"x\") is not known"),
    ] {
        let message = refusal(llama(name, &value));
        assert!(message.starts_with("config.json: LlamaForCausalLM") && message.contains(expected), "{message}");
    }
    // All of them at once.
    let message = refusal(json!({"architectures": ["LlamaForCausalLM"], "is_causal": false, "new": 1, "newer": [2]}));
    assert!(
        message.contains("is_causal") && message.contains("\"new\" (1)") && message.contains("\"newer\""),
        "{message}"
    );
}

#[test]
fn what_changes_nothing_is_accepted() {
    let changes = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false, "mlp_bias": false,
        "pretraining_tp": 2, "rope_scaling": null, "residual_multiplier": 1.0, "logits_scaling": 1, "is_causal": true,
        "use_cache": false, "transformers_version": "5.0.0", "_name_or_path": "x", "unsloth_fixed": true, "quantization": null,
        "quantization_config": null, "no_rope_layers": null, "a_field_of_tomorrow": null, "temperature": 0.6,
        "id2label": {"0": "a"}, "attention_dropout": 0.1, "pad_token_id": 3, "layer_types": ["full_attention", "full_attention"],
        "is_llama_config": true, "rope_interleaved": false, "use_sliding_window": false, "max_window_layers": 28,
    });
    let parsed = ModelConfig::parse(&config(changes)).unwrap();
    assert_eq!(parsed.remarks, Vec::<String>::new());
}

#[test]
fn code_of_the_models_own_is_refused_unless_it_is_the_familys() {
    let with = |class: &str, code: &str| json!({"architectures": [class], "auto_map": {"AutoModelForCausalLM": code}});
    for (class, code) in [
        ("Phi3ForCausalLM", "modeling_phi3.Phi3ForCausalLM"),
        ("ExaoneForCausalLM", "modeling_exaone.ExaoneForCausalLM"),
        ("InternLM3ForCausalLM", "org/model--modeling_internlm3.InternLM3ForCausalLM"),
    ] {
        ModelConfig::parse(&config(with(class, code))).unwrap();
    }
    let message = refusal(with("LlamaForCausalLM", "modeling_other.OtherForCausalLM"));
    assert!(message.contains("\"modeling_other.OtherForCausalLM\""), "{message}");
}

#[test]
fn fields_that_say_one_thing_twice_must_agree() {
    let llama = |mut more: Value| {
        more["architectures"] = json!(["LlamaForCausalLM"]);
        more
    };
    for (changes, part) in [
        (llama(json!({"rope_theta": 5.0e5})), "\"rope_theta\""),
        (llama(json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}})), "rope_parameters.rope_type"),
        (llama(json!({"rope_parameters": {"rope_type": "linear", "type": "yarn", "factor": 2.0}})), "\"rope_type\""),
        (
            json!({"architectures": ["ExaoneForCausalLM"], "num_layers": 3}),
            "\"num_hidden_layers\" is 2, \"num_layers\" is 3",
        ),
        (json!({"architectures": ["InternLM3ForCausalLM"], "qkv_bias": true, "attention_bias": false}), "qkv_bias"),
    ] {
        let message = refusal(changes);
        assert!(message.contains(part) && message.contains("must say the same"), "{message}");
    }
}

#[test]
fn of_two_original_contexts_the_one_that_counts_is_said() {
    let parsed = ModelConfig::parse(&config(json!({
        "architectures": ["LlamaForCausalLM"], "original_max_position_embeddings": 32,
        "rope_parameters": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}
    })));
    let said = parsed.unwrap().remarks.join("; ");
    assert!(said.contains("is 32 and, of the rope, 64: the former"), "{said}");
}

#[test]
fn granite_scales_as_its_fields_say() {
    let parse = |fields: Value| ModelConfig::parse(&config(fields)).unwrap().spec;
    let scaled = parse(json!({
        "architectures": ["GraniteForCausalLM"], "embedding_multiplier": 12.0, "attention_multiplier": 0.0078125,
        "residual_multiplier": 0.22, "logits_scaling": 16,
    }));
    let LayerSpec { attention, mlp } = &scaled.layers[1];
    assert_eq!((scaled.embedding_multiplier, scaled.logits.multiplier), (12.0, 0.0625));
    assert_eq!((attention.scale, attention.half.residual_multiplier), (Some(0.007_812_5), 0.22));
    assert_eq!(mlp.half.residual_multiplier, 0.22);
    // What is left out is one, of attention too: not one over a root.
    let plain = parse(json!({"architectures": ["GraniteForCausalLM"]}));
    assert_eq!((plain.embedding_multiplier, plain.layers[0].attention.scale), (1.0, Some(1.0)));
    let nothing = refusal(json!({"architectures": ["GraniteForCausalLM"], "logits_scaling": 0.0}));
    assert!(nothing.contains("\"logits_scaling\""), "{nothing}");
}

#[test]
fn smollm3_rotates_where_its_list_has_a_one() {
    let rotates = |fields: Value| {
        let spec = ModelConfig::parse(&config(fields)).unwrap().spec;
        let layers = spec.layers.iter().map(|layer| (layer.attention.rope.is_some(), layer.attention.window));
        layers.collect::<Vec<_>>()
    };
    let smollm3 = |mut more: Value| {
        more["architectures"] = json!(["SmolLM3ForCausalLM"]);
        more
    };
    assert_eq!(rotates(smollm3(json!({"no_rope_layers": [0, 1]}))), [(false, None), (true, None)]);
    // More entries than layers are allowed there.
    assert_eq!(rotates(smollm3(json!({"no_rope_layers": [1, 1, 0]}))), [(true, None), (true, None)]);
    let every_fourth = rotates(smollm3(json!({"num_hidden_layers": 8})));
    let unrotated = every_fourth.iter().enumerate().filter(|(_, (rotates, _))| !rotates).map(|(layer, _)| layer);
    assert_eq!(unrotated.collect::<Vec<_>>(), [3, 7]);
    let windowed = smollm3(json!({"no_rope_layer_interval": 2, "use_sliding_window": true, "sliding_window": 16}));
    assert_eq!(rotates(windowed), [(true, None), (false, Some(16))]);
    for wrong in [json!([1]), json!([1, 2]), json!(["1", "1"]), json!(7)] {
        let message = refusal(smollm3(json!({"no_rope_layers": wrong})));
        assert!(message.contains("a list of 2 zeros and ones"), "{message}");
    }
}

#[test]
fn exaone_goes_by_its_own_names() {
    let mut value: Value = serde_json::from_str(&config(json!({"architectures": ["ExaoneForCausalLM"]}))).unwrap();
    let fields = value.as_object_mut().unwrap();
    fields.remove("num_hidden_layers");
    fields.insert("num_layers".into(), json!(5));
    fields.insert("layer_norm_epsilon".into(), json!(1e-4));
    let parsed = ModelConfig::parse(&value.to_string()).unwrap();
    assert_eq!((parsed.layers, parsed.spec.final_norm.eps), (5, 1e-4));
    value["activation_function"] = json!("gelu");
    assert!(ModelConfig::parse(&value.to_string()).unwrap_err().to_string().contains("\"gelu\""));
}

#[test]
fn gemma_bends_and_scales_as_its_fields_say() {
    let parse = |fields: Value| ModelConfig::parse(&config(fields)).unwrap().spec;
    let gemma2 = parse(json!({"architectures": ["Gemma2ForCausalLM"], "attn_logit_softcapping": null}));
    let LayerSpec { attention, mlp } = &gemma2.layers[0];
    // Left out it is the family's, and an explicit null is none.
    assert_eq!((attention.soft_cap, gemma2.logits.soft_cap), (None, Some(30.0)));
    assert_eq!((attention.scale, gemma2.embedding_multiplier), (Some(0.0625), 8.0));
    assert_eq!((mlp.activation, mlp.half.place), (ActivationKind::GeluTanh, NormPlace::Both));
    assert_eq!((mlp.half.norm.offset, gemma2.final_norm.offset), (1.0, 1.0));
    let other =
        parse(json!({"architectures": ["Gemma2ForCausalLM"], "query_pre_attn_scalar": 144, "rms_norm_offset": 0.0}));
    assert_eq!((other.layers[0].attention.scale, other.final_norm.offset), (Some(1.0 / 12.0), 0.0));
    let relu = refusal(json!({"architectures": ["Gemma2ForCausalLM"], "hidden_activation": "relu"}));
    assert!(relu.contains("\"relu\" is not supported"), "{relu}");
}

#[test]
fn layers_with_windows_may_rotate_otherwise() {
    let ropes = |fields: Value| {
        let spec = ModelConfig::parse(&config(fields)).unwrap().spec;
        spec.layers.iter().map(|layer| layer.attention.rope.clone().unwrap().config).collect::<Vec<_>>()
    };
    let linear = RopeConfig { theta: 1e6, scaling: RopeScaling::Linear { factor: 8.0 } };
    // As its makers write it, and as transformers 5 does.
    let flat = json!({
        "architectures": ["Gemma3ForCausalLM"], "rope_parameters": null, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window": 16, "sliding_window_pattern": 2,
    });
    let nested = json!({
        "architectures": ["Gemma3ForCausalLM"], "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    });
    let expected = [RopeConfig::plain(1e4), linear];
    assert_eq!(ropes(flat), expected);
    assert_eq!(ropes(nested.clone()), expected);
    let mut llama = nested;
    llama["architectures"] = json!(["LlamaForCausalLM"]);
    assert!(refusal(llama).contains("one set must hold for all layers"));
}

#[test]
fn phi_rotates_a_part_of_each_head_by_factors() {
    let phi = |rope: Value| {
        json!({
            "architectures": ["Phi3ForCausalLM"], "head_dim": 16, "partial_rotary_factor": 0.75, "rope_parameters": null,
            "max_position_embeddings": 4096, "original_max_position_embeddings": 64, "rope_theta": 10000.0, "rope_scaling": rope,
        })
    };
    let short = [1.0, 1.0, 1.5, 2.0, 2.5, 3.0];
    let parsed = ModelConfig::parse(&config(phi(json!({
        "type": "longrope", "short_factor": short, "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    }))));
    let parsed = parsed.unwrap();
    let rope = parsed.spec.layers[0].attention.rope.clone().unwrap();
    assert_eq!(rope.width, 12);
    let RopeScaling::Long { factors, attention_factor } = rope.config.scaling else { panic!("{rope:?}") };
    assert_eq!(factors, short);
    // A factor of 64 is the original context: one and one, of which the root is taken.
    assert!((attention_factor - 2.0f64.sqrt()).abs() < 1e-12);
    assert_eq!((parsed.context, parsed.remarks.len()), (64, 1));
    assert!(parsed.remarks[0].contains("long_factor"), "{:?}", parsed.remarks);
    let wrong = refusal(phi(json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]})));
    assert!(wrong.contains("a list of 6 factors"), "{wrong}");
    let elsewhere = refusal(json!({"architectures": ["LlamaForCausalLM"], "partial_rotary_factor": 0.5}));
    assert!(elsewhere.contains("whole heads are rotated"), "{elsewhere}");
}

#[test]
fn mixtures_say_how_many_experts_and_how_they_are_weighed() {
    let of =
        |fields: Value| ModelConfig::parse(&config(fields)).map(|parsed| parsed.spec.layers[1].mlp.mixture.unwrap());
    let qwen = |mut more: Value| {
        more["architectures"] = json!(["Qwen3MoeForCausalLM"]);
        more["moe_intermediate_size"] = json!(24);
        more
    };
    let found = of(qwen(json!({"num_experts": 16, "num_experts_per_tok": 3, "norm_topk_prob": true}))).unwrap();
    assert_eq!(found, MixtureSpec { experts: 16, used: 3, weights: ExpertWeights::OfAllToOne, shared: None });
    let found = of(qwen(json!({"num_local_experts": 16}))).unwrap();
    assert_eq!(found, MixtureSpec { experts: 16, used: 8, weights: ExpertWeights::OfAll, shared: None });
    let granite = of(json!({"architectures": ["GraniteMoeForCausalLM"]})).unwrap();
    assert_eq!(granite, MixtureSpec { experts: 8, used: 2, weights: ExpertWeights::OfUsed, shared: None });
    let shared = |family: &str, fields: Value| {
        let mut more = json!({"architectures": [family], "moe_intermediate_size": 24});
        more.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        of(more).unwrap().shared
    };
    let qwen2 = |fields: Value| shared("Qwen2MoeForCausalLM", fields);
    assert_eq!(qwen2(json!({"shared_expert_intermediate_size": 40})), Some(SharedSpec { width: 40, scored: true }));
    assert_eq!(qwen2(json!({})), Some(SharedSpec { width: 5632, scored: true }));
    for (width, expected) in [(40, Some(SharedSpec { width: 40, scored: false })), (0, None)] {
        let fields = json!({"architectures": ["GraniteMoeSharedForCausalLM"], "shared_intermediate_size": width});
        assert_eq!(of(fields).unwrap().shared, expected);
    }
    for (fields, part) in [
        (json!({"num_experts": 4, "num_experts_per_tok": 5}), "there are 4 experts"),
        (json!({"num_experts": 4, "num_local_experts": 5}), "must say the same"),
        (json!({"num_experts": 1_000_000}), "a whole number from 1 to"),
        (json!({"mlp_only_layers": [0]}), "\"mlp_only_layers\""),
        (json!({"decoder_sparse_step": 2}), "\"decoder_sparse_step\" is 2"),
        (json!({"shared_expert_intermediate_size": 64}), "\"shared_expert_intermediate_size\""),
    ] {
        let found = of(qwen(fields)).unwrap_err().to_string();
        assert!(found.contains(part), "{found}");
    }
}
