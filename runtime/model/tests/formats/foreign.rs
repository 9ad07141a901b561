//! Random damage to every file that is read: an error or an answer, never a panic, never memory that the file has not.

use std::fs;

use lime_model::{ModelConfig, ModelFolder};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::damage::{damaged, edits};
use crate::places::{fixture, read};

/// Any small JSON value, of the kinds that configs hold more often than others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z_0-9/.]{0,12}".prop_map(Value::from),
        prop_oneof![Just("llama3"), Just("yarn"), Just("linear"), Just("silu"), Just("float32")].prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z_]{1,10}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const FIELDS: [&str; 22] = [
    "architectures",
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "dtype",
    "torch_dtype",
    "eos_token_id",
    "sliding_window",
    "use_sliding_window",
    "layer_types",
    "quantization_config",
    "partial_rotary_factor",
];
const ROPE_FIELDS: [&str; 12] = [
    "rope_type",
    "type",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
];

const SMALL_CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 4, "intermediate_size": 2, "num_hidden_layers": 1,
    "num_attention_heads": 1, "vocab_size": 3, "max_position_embeddings": 8, "dtype": "float32", "tie_word_embeddings": true}"#;

fn small_weights() -> (Vec<u8>, Value) {
    let mut header = Map::new();
    let mut end = 0;
    let mut map = Map::new();
    for (name, shape) in [
        ("model.embed_tokens.weight", vec![3, 4]),
        ("model.layers.0.input_layernorm.weight", vec![4]),
        ("model.layers.0.self_attn.q_proj.weight", vec![4, 4]),
        ("model.layers.0.self_attn.k_proj.weight", vec![4, 4]),
        ("model.layers.0.self_attn.v_proj.weight", vec![4, 4]),
        ("model.layers.0.self_attn.o_proj.weight", vec![4, 4]),
        ("model.layers.0.post_attention_layernorm.weight", vec![4]),
        ("model.layers.0.mlp.gate_proj.weight", vec![2, 4]),
        ("model.layers.0.mlp.up_proj.weight", vec![2, 4]),
        ("model.layers.0.mlp.down_proj.weight", vec![4, 2]),
        ("model.norm.weight", vec![4]),
    ] {
        let start = end;
        end += shape.iter().product::<usize>() * 4;
        header.insert(name.into(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
        map.insert(name.into(), "part.safetensors".into());
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + end, 0);
    (bytes, json!({"metadata": {}, "weight_map": map}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn configs(changes in proptest::collection::vec((0..FIELDS.len(), any_json()), 0..6),
               rope in proptest::collection::vec((0..ROPE_FIELDS.len(), any_json()), 0..8)) {
        let mut config: Value = serde_json::from_str(&read(fixture("models/bard-2m/config.json"))).unwrap();
        for (field, value) in changes {
            config[FIELDS[field]] = value;
        }
        if !rope.is_empty() {
            let fields = rope.into_iter().map(|(field, value)| (ROPE_FIELDS[field].to_owned(), value));
            config["rope_scaling"] = Value::Object(fields.collect());
        }
        if let Ok(config) = ModelConfig::parse(&config.to_string()) {
            for rope in config.spec.ropes() {
                let (frequencies, factor) = rope.config.inverse_frequencies(rope.width, config.context);
                prop_assert!(frequencies.iter().all(|frequency| frequency.is_finite()) && factor.is_finite());
            }
            let card = config.card("any");
            prop_assert!(card.weight_bytes().0 >= card.parameters);
        }
    }

    #[test]
    fn config_bytes(edits in edits(), cut: prop::sample::Index, keep: bool) {
        let bytes = damaged(read(fixture("models/bard-2m/config.json")).as_bytes(), &edits, &cut, keep);
        let _ = ModelConfig::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn weights(edits in edits(), cut: prop::sample::Index, keep: bool) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), SMALL_CONFIG).unwrap();
        let bytes = damaged(&small_weights().0, &edits, &cut, keep);
        fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
        if let Ok(opened) = ModelFolder::open(folder.path()) {
            for block in opened.card("any").all_blocks() {
                for entry in opened.tensors(block).unwrap() {
                    prop_assert!(entry.offset + entry.bytes <= bytes.len() as u64);
                }
            }
        }
    }

    #[test]
    fn indices(edits in edits(), cut: prop::sample::Index, keep: bool, other in any_json(), random: bool) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), SMALL_CONFIG).unwrap();
        let (weights, index) = small_weights();
        fs::write(folder.path().join("part.safetensors"), weights).unwrap();
        let index = if random { json!({"weight_map": other}) } else { index };
        let bytes = damaged(index.to_string().as_bytes(), &edits, &cut, keep);
        fs::write(folder.path().join("model.safetensors.index.json"), bytes).unwrap();
        let _ = ModelFolder::open(folder.path());
    }
}

#[test]
fn hugely_nested_json_is_an_error() {
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    for text in [nested.clone(), format!("{{\"architectures\": {nested}}}")] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), text).unwrap();
        let fault = ModelFolder::open(folder.path()).err().unwrap().to_string();
        assert!(fault.contains("config.json"), "{fault}");
    }
}
