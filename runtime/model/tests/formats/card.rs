//! Cards and layouts, against known sizes.

use lime_model::{BLOCK_ALIGNMENT, BlockLayout, ModelConfig, ModelFolder, TENSOR_ALIGNMENT, TensorRole};
use lime_plan::{Block, Bytes, LayerIndex};

use crate::places::{fixture, json, shared};

#[test]
fn parameters_are_the_published_ones() {
    for (name, parameters) in [
        ("llama-2-13b", 13_015_864_320u64),
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("llama-3.2-1b-instruct", 1_235_814_400),
        ("mistral-7b-v0.3", 7_248_023_552),
        ("qwen2.5-14b", 14_770_033_664),
        ("qwen3-32b", 32_762_123_264),
    ] {
        let Some(folder) = shared(&format!("configs/{name}")) else { return };
        let card = ModelConfig::load(&folder).unwrap().card(name);
        assert_eq!(card.parameters, parameters, "{name}");
        let exact = Bytes(parameters * card.dtype().size());
        // Padding: less than a page for each block.
        let blocks = 2 + 2 * u64::from(card.layers);
        assert!(card.weight_bytes() >= exact && card.weight_bytes().0 < exact.0 + blocks * BLOCK_ALIGNMENT, "{name}");
    }
}

#[test]
fn sizes_are_those_of_the_index_files() {
    for name in ["llama-2-13b", "llama-3.1-8b", "mistral-7b-v0.3", "qwen2.5-14b"] {
        let Some(folder) = shared(&format!("configs/{name}")) else { return };
        let config = ModelConfig::load(&folder).unwrap();
        let index = json(folder.join("model.safetensors.index.json"));
        let stored = index["metadata"]["total_size"].as_u64().unwrap();
        let names = index["weight_map"].as_object().unwrap();
        // Older files carry the rotary frequencies, in f32.
        let rotary = names.keys().filter(|name| name.ends_with("rotary_emb.inv_freq")).count();
        let rotary_bytes = (rotary * config.head_dim / 2 * 4) as u64;
        assert_eq!(config.card(name).parameters * config.dtype().size() + rotary_bytes, stored, "{name}");
        let mut ours = 0;
        for block in config.card(name).all_blocks() {
            for entry in BlockLayout::of(&config, block).entries {
                let tensor = entry.role.file_name(block);
                assert!(names.contains_key(&tensor), "{name}: {tensor}");
                ours += 1;
            }
        }
        assert_eq!(ours, names.len() - rotary, "{name}");
    }
}

#[test]
fn the_bundled_models_card_counts_its_tied_matrix_once() {
    let card = ModelFolder::open(fixture("models/bard-2m")).unwrap().card("bard-2m");
    assert_eq!(card.parameters, 2_346_112);
    assert_eq!(card.blocks.embedding, Bytes(1024 * 128 * 2));
    assert_eq!(card.blocks.head_beside_embedding, Bytes(4096));
    assert_eq!(card.blocks.head, Bytes(1024 * 128 * 2 + 4096));
    assert_eq!(card.blocks.attention.len(), 12);
}

#[test]
fn tensors_are_aligned_and_apart() {
    let config = r#"{"architectures": ["Qwen3ForCausalLM"], "hidden_size": 40, "intermediate_size": 33, "num_hidden_layers": 1,
        "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 6, "vocab_size": 11, "max_position_embeddings": 8,
        "attention_bias": true, "dtype": "bfloat16"}"#;
    let config = ModelConfig::parse(config).unwrap();
    for block in config.card("odd").all_blocks() {
        let layout = BlockLayout::of(&config, block);
        let mut end = 0;
        for entry in &layout.entries {
            assert!(entry.offset >= end && entry.offset < end + TENSOR_ALIGNMENT);
            assert!(entry.offset.is_multiple_of(TENSOR_ALIGNMENT));
            assert_eq!(entry.bytes, entry.shape.iter().product::<usize>() as u64 * 2);
            end = entry.offset + entry.bytes;
        }
        assert!(layout.bytes >= end && layout.bytes.is_multiple_of(BLOCK_ALIGNMENT));
    }
    let attention = BlockLayout::of(&config, Block::Attention(LayerIndex(0)));
    let roles: Vec<TensorRole> = attention.entries.iter().map(|entry| entry.role).collect();
    use TensorRole::{InputNorm, K, KBias, KNorm, O, OBias, Q, QBias, QNorm, V, VBias};
    assert_eq!(roles, [InputNorm, Q, K, V, O, QBias, KBias, VBias, OBias, QNorm, KNorm]);
}
