//! The layers of candle-transformers over the same files: people who know nothing of this engine must come to its logits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fs, path::Path};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, mixtral, olmo2, qwen2, qwen3, qwen3_moe};
use common::{Ring, Wish, argmax, bundled};
use lime_engine::EngineOptions;
use serde_json::{Value, json};

/// Tokens of the prompt: more than a block of attention has positions.
const PROMPT: u32 = 70;
const ANSWER: usize = 24;

/// A model of candle-transformers: logits of the last of all tokens so far.
type Oracle = Box<dyn FnMut(&[u32]) -> Vec<f32>>;

/// config.json, with what candle's types ask for in the words of older versions.
fn config(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let rope = config["rope_parameters"].clone();
    config["rope_theta"] = rope["rope_theta"].clone();
    if rope["rope_type"] == "llama3" {
        config["rope_scaling"] = rope;
    }
    if config["model_type"] == "qwen2" {
        // Required there, and used only together with use_sliding_window.
        config["sliding_window"] = json!(config["max_position_embeddings"]);
    }
    // Required there, under the names that their makers gave them.
    if config["model_type"] == "qwen3_moe" {
        config["num_experts"] = config["num_local_experts"].clone();
        config["max_window_layers"] = config["num_hidden_layers"].clone();
    }
    if config["model_type"] == "mixtral" {
        config["sliding_window"] = json!(config["max_position_embeddings"]);
        config["use_flash_attn"] = json!(false);
    }
    config
}

fn oracle(folder: &Path) -> Oracle {
    let (config, device) = (config(folder), Device::Cpu);
    let weights = fs::read(folder.join("model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &device).unwrap();
    let row = |logits: Tensor| logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let input = |tokens: &[u32]| Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    match config["model_type"].as_str().unwrap() {
        "llama" => {
            let config: llama::LlamaConfig = serde_json::from_value(config).unwrap();
            let config = config.into_config(false);
            let model = llama::Llama::load(weights, &config).unwrap();
            Box::new(move |tokens| {
                let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
                row(model.forward(&input(tokens), 0, &mut cache).unwrap())
            })
        }
        "mistral" => {
            let mut model = mistral::Model::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "qwen2" => {
            let mut model = qwen2::ModelForCausalLM::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "qwen3" => {
            let mut model = qwen3::ModelForCausalLM::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "olmo2" => {
            let mut model = olmo2::Model::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "qwen3_moe" => {
            let mut model =
                qwen3_moe::ModelForCausalLM::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "mixtral" => {
            let config = serde_json::from_value(config).unwrap();
            Box::new(move |tokens| {
                // It has no way to forget what it was given before.
                let mut model = mixtral::Model::new(&config, weights.clone()).unwrap();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        other => panic!("no oracle for {other}"),
    }
}

/// The engine in f32 throughout, beside the oracle along the engine's own greedy answer.
fn check(name: &str) {
    let folder = bundled(name);
    let mut oracle = oracle(folder.path());
    let vocabulary = folder.config().vocabulary as u32;
    // A spread of the vocabulary; the same in every run.
    let mut tokens: Vec<u32> = (0..PROMPT).map(|index| (index * 37 + 11) % vocabulary).collect();
    let mut ring = Ring::load(&folder, Wish::golden(&folder).plan(&folder), EngineOptions::default());
    let mut logits = ring.feed(0, 0, &tokens, tokens.len());
    let mut worst = 0.0_f32;
    for _ in 0..ANSWER {
        let theirs = oracle(&tokens);
        assert_eq!(logits.len(), theirs.len());
        let differences = logits.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs());
        worst = differences.fold(worst, f32::max);
        let next = argmax(&logits);
        tokens.push(next);
        logits = ring.feed(0, tokens.len() as u32 - 1, &[next], 1);
    }
    println!("{name}: {ANSWER} positions, logits within {worst:e} of candle-transformers");
    assert!(worst < 1e-3, "{name}: logits differ by {worst}");
}

#[test]
fn llama() {
    check("bard-2m");
    check("tiny-llama3-bf16");
}

#[test]
fn mistral_with_heads_wider_than_the_model() {
    check("tiny-mistral-bf16");
}

#[test]
fn qwen2_with_biases() {
    check("tiny-qwen2-bf16");
}

#[test]
fn qwen3_with_norms_of_queries_and_keys() {
    check("tiny-qwen3-bf16");
}

/// Of families with windows candle-transformers has one position more in the window than transformers.
#[test]
fn olmo2_with_norms_behind() {
    check("tiny-olmo2-bf16");
}

#[test]
fn mixtures() {
    check("tiny-qwen3-moe-bf16");
    check("tiny-mixtral-bf16");
}
