//! Which configs are of which family, and that nothing in them which might change the sums is passed over.

use lime_model::{LayerSpec, ModelConfig};
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
        Ernie45, Exaone, Granite, InternLm3, Llama, Ministral3, Mistral, Phi3, Qwen2, Qwen3, SeedOss, SmolLm3,
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
    ] {
        for names in [
            json!({"architectures": [class]}),
            json!({"model_type": model_type}),
            json!({"architectures": [class], "model_type": model_type}),
            json!({"architectures": [], "model_type": model_type}),
        ] {
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
