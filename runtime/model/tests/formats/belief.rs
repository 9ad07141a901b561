//! What is believed of a model is one set of limits: a model that loads is none that the planner refuses.

use lime_model::ModelConfig;
use lime_plan::{Goal, Limit};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A small model with these fields instead of its own.
fn parsed(fields: &[(&str, u64)]) -> Result<ModelConfig, String> {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "vocab_size": 100,
        "max_position_embeddings": 128, "dtype": "float32",
    });
    for (name, value) in fields {
        config[*name] = Value::from(*value);
    }
    ModelConfig::parse(&config.to_string()).map_err(|fault| fault.to_string())
}

fn planned(config: &ModelConfig) {
    let card = config.card("drawn");
    Goal::sporadic(&card, 1).check(&card).unwrap();
    let context = card.context.min(Limit::CONTEXT.most as u32);
    if card.layers == 2 && card.heads == 4 && card.head_dim == 16 {
        Goal::sporadic(&card, context).check(&card).unwrap();
    }
}

const FIELDS: [(&str, Limit); 7] = [
    ("num_hidden_layers", Limit::LAYERS),
    ("hidden_size", Limit::HIDDEN),
    ("intermediate_size", Limit::INTERMEDIATE),
    ("num_attention_heads", Limit::HEADS),
    ("head_dim", Limit::HEAD_DIM),
    ("vocab_size", Limit::VOCABULARY),
    ("max_position_embeddings", Limit::MODEL_CONTEXT),
];

#[test]
fn at_every_limit_a_model_loads_and_is_planned_and_above_it_is_refused_by_name() {
    for (field, limit) in FIELDS {
        planned(&parsed(&[(field, limit.most)]).unwrap());
        let refused = parsed(&[(field, limit.most + 1)]).unwrap_err();
        assert!(refused.contains(field), "{refused}");
    }
    let heads = [("num_attention_heads", Limit::HEADS.most), ("num_key_value_heads", Limit::KV_HEADS.most)];
    planned(&parsed(&heads).unwrap());
    assert!(parsed(&[heads[0], ("num_key_value_heads", Limit::KV_HEADS.most + 1)]).is_err());
}

#[test]
fn numbers_that_are_believed_one_by_one_and_not_together_are_refused_when_the_config_is_read() {
    let all: Vec<(&str, u64)> = FIELDS.iter().map(|(field, limit)| (*field, limit.most)).collect();
    let refused = parsed(&all).unwrap_err();
    assert!(refused.contains("config.json") && refused.contains("bytes of weights"), "{refused}");
}

proptest! {
    #[test]
    fn what_loads_is_never_refused(bits in proptest::array::uniform7(0_u32..=27)) {
        let fields: Vec<(&str, u64)> = FIELDS
            .iter()
            .zip(bits)
            .map(|((field, limit), bits)| (*field, (1 << bits).min(limit.most)))
            .chain([("num_key_value_heads", 1)])
            .collect();
        if let Ok(config) = parsed(&fields) {
            planned(&config);
        }
    }
}
