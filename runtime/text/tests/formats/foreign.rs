//! Random damage to every file that is read: an error or an answer, never a panic.

use std::fs;

use lime_text::{ChatTemplate, GenerationConfig, ServedText, Tokenizer};
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
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z_]{1,10}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn generation_configs(value in any_json(), temperature in any_json(), eos in any_json()) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("generation_config.json");
        fs::write(&file, value.to_string()).unwrap();
        let _ = GenerationConfig::load(folder.path());
        fs::write(&file, json!({"temperature": temperature, "eos_token_id": eos}).to_string()).unwrap();
        let _ = GenerationConfig::load(folder.path());
    }

    #[test]
    fn template_sources(source in "[ a-z{}%#'\"|().\\[\\]0-9:=-]{0,80}") {
        let messages = json!([{"role": "user", "content": "hi"}]);
        if let Ok(template) = ChatTemplate::from_source(&source, Map::new()) {
            let _ = template.render(&messages, true, None, &Map::new());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tokenizers(edits in edits(), cut: prop::sample::Index, keep: bool, ids in proptest::collection::vec(any::<u32>(), 0..20)) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = damaged(read(fixture("models/bard-2m/tokenizer.json")).as_bytes(), &edits, &cut, keep);
        fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
        if let Ok(tokenizer) = Tokenizer::open(folder.path()) {
            if let Ok(encoded) = tokenizer.encode("To be, or not to be é", true) {
                tokenizer.decode(&encoded, true);
            }
            tokenizer.decode(&ids, false);
        }
    }

    #[test]
    fn tokenizer_parts(normalizer in any_json(), pre in any_json(), post in any_json(), decoder in any_json(), part in 0usize..5) {
        let folder = tempfile::tempdir().unwrap();
        let mut tokenizer: Value = serde_json::from_str(&read(fixture("models/bard-2m/tokenizer.json"))).unwrap();
        let parts = ["normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens"];
        let values = [normalizer, pre, post, decoder, json!([{"id": 5}])];
        tokenizer[parts[part]] = values[part].clone();
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        if let Ok(tokenizer) = Tokenizer::open(folder.path()) {
            let _ = tokenizer.encode("To be", true);
        }
    }
}

#[test]
fn hugely_nested_json_is_an_error_of_every_reader() {
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    for file in
        ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.json"]
    {
        let folder = tempfile::tempdir().unwrap();
        for kept in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            fs::copy(fixture("models/bard-2m").join(kept), folder.path().join(kept)).unwrap();
        }
        let inside = format!("{{\"added_tokens\": {nested}, \"normalizer\": {nested}, \"chat_template\": {nested}}}");
        for text in [&nested, &inside] {
            fs::write(folder.path().join(file), text).unwrap();
            let faults = ServedText::open(folder.path()).err().unwrap();
            assert_eq!(faults.0.len(), 1, "{file}: {faults}");
            assert!(faults.to_string().contains(file), "{faults}");
        }
    }
}
