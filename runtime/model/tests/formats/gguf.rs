//! GGUF files: what is read of them, and what is wrong with those that are not.

use std::fs;

use lime_model::{Gguf, ModelFolder};
use lime_plan::{Architecture, Format};
use serde_json::{Value, json};

use crate::made::{F32, Made, Q8_0, numbers};

fn opened(bytes: &[u8]) -> Result<ModelFolder, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let model = ModelFolder::open(&path).map_err(|fault| fault.to_string())?;
    Gguf::open(&path).unwrap().small_files(None).map_err(|fault| fault.to_string())?;
    Ok(model)
}

fn fault(made: &Made) -> String {
    opened(&made.bytes()).unwrap_err()
}

#[test]
fn a_file_is_a_model() {
    for version in [2, 3] {
        let model = opened(&Made { version, ..Made::llama() }.bytes()).unwrap();
        let config = model.config();
        assert_eq!((config.architecture, config.layers, config.heads, config.kv_heads), (Architecture::Llama, 2, 2, 1));
        assert_eq!((config.head_dim, config.vocabulary, config.tied), (16, 8, true));
        assert_eq!((config.bos, config.eos.as_slice()), (Some(1), &[2][..]));
        assert_eq!(config.formats.usual(), Format::Q8_0);
        let values: Vec<Format> = (0..2)
            .map(|layer| model.tensors(lime_plan::Block::Attention(lime_plan::LayerIndex(layer))).unwrap()[3].format)
            .collect();
        assert_eq!(values, [Format::Q8_0, Format::F32], "formats may differ from layer to layer");
    }
}

#[test]
fn rows_that_are_rotated_together_are_taken_apart() {
    let model = opened(&Made::llama().bytes()).unwrap();
    let tensors = model.tensors(lime_plan::Block::Attention(lime_plan::LayerIndex(0))).unwrap();
    let runs = |role: usize| tensors[role].runs();
    // Query and key rows, of 34 bytes, half a head of 16 apart; values as they are.
    let from: Vec<u64> = runs(1)[..4].iter().map(|run| (run.from - tensors[1].offset) / 34).collect();
    assert_eq!((from, runs(2).len(), runs(3).len()), (vec![0, 2, 4, 6], 16, 1));
}

#[test]
fn pieces_with_scores_become_merges() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, Made::llama().bytes()).unwrap();
    let files = Gguf::open(&path).unwrap().small_files(None).unwrap();
    let named = |name: &str| -> Value {
        serde_json::from_slice(&files.iter().find(|(known, _)| *known == name).unwrap().1).unwrap()
    };
    let tokenizer = named("tokenizer.json");
    assert_eq!(tokenizer["model"]["merges"], json!([["a", "b"], ["\u{2581}", "ab"]]));
    assert_eq!(tokenizer["model"]["byte_fallback"], true);
    assert_eq!(tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
    assert_eq!(named("tokenizer_config.json")["eos_token"], "</s>");
    assert_eq!(named("generation_config.json")["eos_token_id"], json!([2]));
}

#[test]
fn what_is_not_run_is_refused_by_name() {
    let llama = Made::llama();
    let set = |key: &str, value: &str| llama.with(|made| made.set_text(key, value));
    let count = |key: &str, value| llama.with(|made| made.set_count(key, value));
    for (made, says) in [
        (set("general.architecture", "mamba"), "the architecture \"mamba\" is not supported"),
        (set("tokenizer.ggml.model", "t5"), "the tokenizer \"t5\" is not supported"),
        (set("tokenizer.ggml.model", "gpt2"), "\"tokenizer.ggml.pre\" is missing"),
        (
            set("tokenizer.ggml.model", "gpt2").with(|made| made.set_text("tokenizer.ggml.pre", "klingon")),
            "\"klingon\", which is not supported",
        ),
        (
            set("tokenizer.ggml.model", "gpt2").with(|made| made.set_text("tokenizer.ggml.pre", "qwen2")),
            "\"tokenizer.ggml.merges\" is missing",
        ),
        (set("llama.rope.scaling.type", "magic"), "is \"magic\", which is not supported"),
        (count("llama.expert_count", 8), "\"llama.expert_used_count\" is missing"),
        (count("llama.expert_shared_count", 1), "experts that all rows share"),
        (count("llama.attention.sliding_window", 8), "an attention window"),
        (count("llama.rope.dimension_count", 8), "heads are 16 wide"),
        (count("tokenizer.ggml.eos_token_id", 8), "there are 8 tokens"),
        (llama.with(|made| made.tensor("rope_freqs.weight", &[8], F32)), "rope_freqs.weight) are not those of Llama 3"),
        (llama.with(|made| made.tensors[3].2 = 16), "is of the unknown type"),
        (
            llama.with(|made| (made.tensors[3].1, made.tensors[3].2) = (vec![256, 4], 34)),
            "TQ1_0, which is not supported",
        ),
        (llama.without("llama.block_count"), "\"llama.block_count\" is missing"),
        (llama.without("tokenizer.ggml.scores"), "\"tokenizer.ggml.scores\" is missing"),
        (Made { version: 1, ..llama.clone() }, "GGUF version 1"),
        (Made { version: 3u32.swap_bytes(), ..llama.clone() }, "big-endian"),
        (Made { version: 9, ..llama.clone() }, "GGUF version 9"),
    ] {
        let found = fault(&made);
        // Of the IQ kinds, the type is known by name and then not run.
        let says = if says == "is of the unknown type" { "IQ2_XXS" } else { says };
        assert!(found.contains(says), "{says}: {found}");
    }
}

#[test]
fn what_is_damaged_is_a_sentence() {
    let llama = Made::llama();
    let of = |change: &dyn Fn(&mut Made)| llama.with(change);
    for (made, says) in [
        (of(&|made| made.keys.push(made.keys[0].clone())), "is there twice"),
        (of(&|made| made.tensors.push(made.tensors[0].clone())), "is there twice"),
        (of(&|made| made.tensors[4].3 = made.tensors[3].3), "overlap"),
        (of(&|made| made.tensors[4].3 += 1), "no multiple of 32"),
        (of(&|made| made.tensors[4].3 = u64::MAX / 32 * 32), "lies beyond any file"),
        (of(&|made| made.tensors.last_mut().unwrap().3 += 1 << 20), "cut short"),
        (of(&|made| made.tensors[3].1 = vec![33, 32]), "stores 32 together"),
        (of(&|made| made.tensors[3].1 = vec![u64::MAX / 32 * 32, 32]), "which nothing can have"),
        (of(&|made| made.tensors[3].1 = vec![0, 32]), "which nothing can have"),
        (of(&|made| made.tensors[3].1 = vec![]), "has 0 dimensions"),
        (of(&|made| made.tensors[3].1 = vec![32; 9]), "has 9 dimensions"),
        (of(&|made| made.tensors[3].2 = 77), "unknown type 77"),
        (of(&|made| made.tensors[3].1 = vec![32, 64]), ""),
        (of(&|made| made.set_count("general.alignment", 33)), "no power of two"),
        (of(&|made| made.set("x", 7, vec![2])), "neither true nor false"),
        (of(&|made| made.set("x", 55, vec![])), "unknown type 55"),
        (of(&|made| made.set("x", 8, vec![255; 8])), "claims 18446744073709551615 bytes"),
        (of(&|made| made.set("x", 9, [vec![4, 0, 0, 0], vec![255; 8]].concat())), "elements"),
        (of(&|made| made.set("x", 9, [vec![9, 0, 0, 0], vec![1; 8]].concat())), "elements"),
        (
            of(&|made| made.set("llama.rope.freq_base", 6, f32::NAN.to_le_bytes().to_vec())),
            "a finite number, found NaN",
        ),
        (
            of(&|made| made.set("llama.attention.layer_norm_rms_epsilon", 6, f32::INFINITY.to_le_bytes().to_vec())),
            "a finite number, found inf",
        ),
        (
            of(&|made| made.set("tokenizer.ggml.scores", 9, numbers(6, 8, |_| f32::NAN.to_le_bytes()))),
            "no number in place 0",
        ),
        (of(&|made| made.set("llama.block_count", 6, 2f32.to_le_bytes().to_vec())), "must be a whole number"),
        (
            of(&|made| made.set("tokenizer.ggml.token_type", 9, numbers(5, 7, |_| [1, 0, 0, 0]))),
            "7 entries for 8 tokens",
        ),
        (of(&|made| drop(made.tensors.remove(3))), "is missing"),
        (of(&|made| made.set_count("llama.block_count", 3)), "is missing"),
        (of(&|made| made.set_count("llama.embedding_length", 64)), "shape"),
        (of(&|made| (made.tensors[1].1, made.tensors[1].2) = (vec![32], Q8_0)), "which a vector cannot be"),
    ] {
        let found = fault(&made);
        assert!(found.contains(says) && found.contains("model.gguf"), "{says}: {found}");
    }
    for bytes in [&b""[..], b"GG", b"GGUF", b"not a model at all"] {
        assert!(opened(bytes).unwrap_err().contains("model.gguf"));
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = Made::llama().bytes();
    for end in (0..whole.len()).step_by(7) {
        let found = opened(&whole[..end]).unwrap_err();
        assert!(found.contains("cut short"), "{end}: {found}");
    }
}

#[test]
fn bytes_changed_anywhere_are_an_error_or_another_model() {
    let made = Made::llama();
    let (whole, header) = (made.bytes(), made.header().len());
    let mut state = 5u64;
    for round in 0..400 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = whole.clone();
        let at = (state >> 33) as usize % header;
        bytes[at] = if round % 3 == 0 { 255 } else { (state >> 20) as u8 };
        // Whatever it is, it is no panic, and takes no memory that is not there.
        let _ = opened(&bytes);
    }
}

#[test]
fn parts_lie_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf");
    let all = Made::llama();
    let split = |number: u16, has_keys: bool, range: std::ops::Range<usize>| {
        all.part(number, if has_keys { &all.keys } else { &[] }, range).bytes()
    };
    let open = |name: &str| ModelFolder::open(folder.path().join(name)).map_err(|fault| fault.to_string());
    fs::write(folder.path().join(first), split(0, true, 0..9)).unwrap();
    let found = open(first).unwrap_err();
    assert!(found.contains(second) && found.contains("is missing"), "{found}");
    fs::write(folder.path().join(second), split(1, false, 9..20)).unwrap();
    for name in [first, second] {
        assert_eq!(open(name).unwrap().weight_files().len(), 2);
    }
    fs::write(folder.path().join(second), split(1, false, 8..20)).unwrap();
    assert!(open(first).unwrap_err().contains("more than one part"));
    fs::write(folder.path().join(second), split(0, false, 9..20)).unwrap();
    assert!(open(first).unwrap_err().contains("part 1 of 2"));
}
