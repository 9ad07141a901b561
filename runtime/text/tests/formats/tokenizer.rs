//! Real tokenizers against the vectors of llama.cpp, and decoding piece by piece.

use lime_text::Tokenizer;
use proptest::prelude::*;

use serde_json::json;

use crate::places::{fixture, json as read_json, read, shared};

fn agrees_with_vectors(tokenizer: &str, vectors: &str) {
    let (Some(folder), Some(inputs)) =
        (shared(&format!("tokenizers/{tokenizer}")), shared(&format!("vectors/ggml-vocab-{vectors}.gguf.inp")))
    else {
        return;
    };
    let outputs = read(inputs.with_extension("out"));
    let inputs = read(&inputs);
    let texts: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<Vec<u32>> =
        outputs.split('\n').map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert_eq!((texts.len(), ids.len()), (47, 47));
    let tokenizer = Tokenizer::open(folder).unwrap();
    for (text, ids) in texts.iter().zip(&ids) {
        assert_eq!(&tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
        assert_eq!(&tokenizer.decode(ids, false), text);
    }
}

#[test]
fn llama_gives_the_ids_of_its_vectors() {
    agrees_with_vectors("llama-3", "llama-bpe");
}

#[test]
fn qwen_gives_the_ids_of_its_vectors() {
    agrees_with_vectors("qwen3", "qwen2");
}

#[test]
fn special_tokens_are_the_models() {
    let bard = Tokenizer::open(fixture("models/bard-2m")).unwrap();
    assert_eq!((bard.bos(), bard.eos(), bard.vocab_size()), (Some(0), &[1][..], 1024));
    assert_eq!(bard.encode("", true).unwrap(), [0]);
    assert!(bard.is_special(0) && !bard.is_special(500) && !bard.is_special(9_999_999));
    assert_eq!(bard.token_id("<|end_of_text|>"), Some(1));
    let known = [
        ("llama-3", vec![128_009], Some(128_000), "<|begin_of_text|>"),
        ("qwen3", vec![151_645], None, "<|im_start|>"),
        ("mistral-v0.3", vec![2], Some(1), "<s>"),
    ];
    for (name, eos, bos, special) in known {
        let Some(folder) = shared(&format!("tokenizers/{name}")) else { return };
        let tokenizer = Tokenizer::open(folder).unwrap();
        assert_eq!((tokenizer.eos(), tokenizer.bos()), (eos.as_slice(), bos), "{name}");
        let ids = tokenizer.encode(&format!("{special}Hi"), false).unwrap();
        assert_eq!(ids[0], tokenizer.token_id(special).unwrap(), "{name}");
        assert_eq!(tokenizer.decode(&ids, true), "Hi", "{name}");
        let with_special = tokenizer.encode("Hi", true).unwrap();
        assert_eq!(with_special.first().copied().filter(|id| Some(*id) == bos), bos, "{name}");
    }
}

#[test]
fn golden_prompts_are_the_golden_ids() {
    let folder = fixture("models/bard-2m");
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let golden = read_json(folder.join("golden.json"));
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let prompts = golden["cases"].as_array().unwrap();
    assert_eq!(prompts.len(), 4);
    for prompt in prompts {
        let text = prompt["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids(&prompt["prompt_ids"]), "{text:?}");
    }
}

#[test]
fn streams_hold_back_what_is_not_a_character_yet() {
    let bard = Tokenizer::open(fixture("models/bard-2m")).unwrap();
    let text = "é🦙ж x";
    let ids = bard.encode(text, false).unwrap();
    let mut stream = bard.decode_stream(true);
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
    assert_eq!(pieces.concat(), text);
    assert!(pieces.iter().any(String::is_empty) && stream.finish().is_empty());
    let mut stream = bard.decode_stream(true);
    assert_eq!(stream.push(ids[0]), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(ids.iter().flat_map(|id| bard.token_bytes(*id)).collect::<Vec<u8>>(), text.as_bytes());
}

#[test]
fn sentence_pieces_begin_without_their_space() {
    let Some(folder) = shared("stories260k") else { return };
    let stories = Tokenizer::open(folder).unwrap();
    assert_eq!(stories.eos(), [2]);
    for text in ["Once upon a time", "a  b", "日本é\n"] {
        let ids = stories.encode(text, true).unwrap();
        assert_eq!(ids[0], 1);
        assert_eq!(stories.decode(&ids, true), text);
    }
}

#[test]
fn what_is_no_tokenizer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let fault = |folder: &std::path::Path| Tokenizer::open(folder).err().unwrap().to_string();
    assert!(fault(folder.path()).contains("tokenizer.json is missing"));
    for text in ["", "{}", "[]", "{\"model\": 5}", "{\"version\": \"1.0\", \"model\": {\"type\": \"Nonsense\"}}"] {
        std::fs::write(folder.path().join("tokenizer.json"), text).unwrap();
        let fault = fault(folder.path());
        assert!(fault.contains("tokenizer.json: not a tokenizer"), "{fault}");
    }
}

#[test]
fn tokenizers_that_make_much_of_little_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let many = |name: &str, kind: &str| json!({"type": "Sequence", name: vec![double.clone(); 34], "of": kind});
    let around = json!({"type": "TemplateProcessing", "pair": [],
        "single": vec![json!({"SpecialToken": {"id": "a", "type_id": 0}}); 1000],
        "special_tokens": {"a": {"id": "a", "ids": vec![0; 1000], "tokens": vec!["a"; 1000]}}});
    let repeated = json!({"type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": vec![json!({"Sequence": {"id": "A", "type_id": 0}}); 1000]});
    let within = (0..20).fold(double.clone(), |inner, _| json!({"type": "Sequence", "normalizers": [inner]}));
    for (part, value, expected) in [
        ("normalizer", many("normalizers", "n"), "its normalizer can make a text 17179869184 times as long"),
        ("decoder", many("decoders", "d"), "its decoder can make a text"),
        ("post_processor", around, "puts 1000000 special tokens around a text"),
        ("post_processor", repeated, "repeats it 1000 times"),
        ("normalizer", within, "or more than 8 within each other"),
    ] {
        let mut file: serde_json::Value =
            serde_json::from_str(&read(fixture("models/bard-2m/tokenizer.json"))).unwrap();
        file[part] = value;
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        let fault = Tokenizer::open(folder.path()).err().unwrap().to_string();
        assert!(fault.contains(expected), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_text_survives(text in "\\PC{0,60}") {
        let bard = Tokenizer::open(fixture("models/bard-2m")).unwrap();
        let ids = bard.encode(&text, false).unwrap();
        prop_assert_eq!(bard.decode(&ids, false), text);
    }

    #[test]
    fn any_ids_decode_and_streams_agree(ids in proptest::collection::vec(prop_oneof![0u32..1100, any::<u32>()], 0..60)) {
        let bard = Tokenizer::open(fixture("models/bard-2m")).unwrap();
        for skip_special in [false, true] {
            let bytes: Vec<u8> = ids.iter()
                .filter(|id| !(skip_special && bard.is_special(**id)))
                .flat_map(|id| bard.token_bytes(*id))
                .collect();
            prop_assert_eq!(bard.decode(&ids, skip_special), String::from_utf8_lossy(&bytes));
        }
    }
}
