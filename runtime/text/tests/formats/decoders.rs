//! Decoders of every kind, piece by piece, against the `tokenizers` library's own for the whole.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::OnceLock,
};

use lime_text::Tokenizer;
use proptest::prelude::*;
use serde_json::{Value, json};

const TOKENS: [&str; 24] = [
    "▁", "▁Hello", "▁world", "Hello", "world", "▁▁a", "a▁", "</w>", "Hel</w>", "lo</w>", "##ing", "##s", ".", "!",
    "'s", "<0xE2>", "<0x96>", "<0x81>", "<0xFF>", "<0x41>", "Ġthe", "Ċ", "ðŁ", "|",
];

fn decoders() -> Vec<Value> {
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let regex = json!({"type": "Replace", "pattern": {"Regex": "l+"}, "content": "L"});
    let strip = |start: usize, stop: usize| json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
    let (bytes, fuse) = (json!({"type": "ByteFallback"}), json!({"type": "Fuse"}));
    let metaspace =
        |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let word_piece = |cleanup: bool| json!({"type": "WordPiece", "prefix": "##", "cleanup": cleanup});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let ctc = json!({"type": "CTC", "pad_token": "▁", "word_delimiter_token": "|", "cleanup": true});
    let suffix = json!({"type": "BPEDecoder", "suffix": "</w>"});
    let sequence = |parts: &[&Value]| json!({"type": "Sequence", "decoders": parts});
    vec![
        Value::Null,
        replace.clone(),
        fuse.clone(),
        bytes.clone(),
        byte_level.clone(),
        suffix.clone(),
        ctc.clone(),
        word_piece(true),
        word_piece(false),
        metaspace("always"),
        metaspace("first"),
        metaspace("never"),
        strip(1, 0),
        sequence(&[&replace, &fuse]),
        sequence(&[&metaspace("always")]),
        sequence(&[&sequence(&[&replace, &bytes]), &fuse, &strip(1, 0)]),
        sequence(&[&replace, &bytes, &fuse]),
        sequence(&[&replace, &bytes, &fuse, &strip(2, 0)]),
        sequence(&[&replace, &fuse, &strip(1, 1)]),
        sequence(&[&bytes, &metaspace("first")]),
        sequence(&[&fuse, &replace, &regex]),
        sequence(&[&regex, &suffix]),
        sequence(&[&byte_level, &replace]),
        sequence(&[&ctc, &word_piece(false)]),
        sequence(&[]),
    ]
}

fn with(decoder: &Value, folder: &Path) -> Tokenizer {
    let vocabulary: serde_json::Map<String, Value> =
        TOKENS.iter().enumerate().map(|(id, text)| ((*text).to_owned(), id.into())).collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": decoder,
        "added_tokens": [{"id": 24, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "."},
    });
    fs::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::open(folder).unwrap()
}

/// Each decoder, here and in the library.
fn pairs() -> &'static [(Value, Tokenizer, tokenizers::Tokenizer)] {
    static PAIRS: OnceLock<Vec<(Value, Tokenizer, tokenizers::Tokenizer)>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let pair = |decoder: Value| {
            let ours = with(&decoder, folder.path());
            (decoder, ours, tokenizers::Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap())
        };
        decoders().into_iter().map(pair).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pieces_together_are_the_librarys_whole(ids in proptest::collection::vec(0u32..26, 1..12), skip: bool) {
        for (decoder, ours, library) in pairs() {
            // The library's Strip looks before the beginning of a text that it has emptied.
            let Ok(expected) = catch_unwind(AssertUnwindSafe(|| library.decode(&ids, skip).unwrap())) else { continue };
            let mut stream = ours.decode_stream(skip);
            let mut pieces: String = ids.iter().map(|id| stream.push(*id)).collect();
            pieces.push_str(&stream.finish());
            prop_assert_eq!(&pieces, &expected, "{} {:?}", decoder, ids);
            prop_assert_eq!(ours.decode(&ids, skip), expected);
        }
    }
}

#[test]
fn common_decoders_hold_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = |decoder: usize, ids: &[u32]| -> Vec<String> {
        let tokenizer = with(&decoders()[decoder], folder.path());
        let mut stream = tokenizer.decode_stream(true);
        ids.iter().map(|id| stream.push(*id)).collect()
    };
    assert_eq!(pieces(13, &[1, 2]), [" Hello", " world"], "Replace and Fuse");
    assert_eq!(pieces(14, &[1, 2]), ["Hello", " world"], "a Sequence of Metaspace");
    assert_eq!(
        pieces(15, &[1, 15, 16, 17, 2]),
        ["Hello", "", "", "", "▁ world"],
        "bytes wait for the end of their run"
    );
    assert_eq!(pieces(7, &[3, 10, 12]), ["Hello", "ing", "."], "WordPiece");
    assert_eq!(pieces(5, &[8, 9, 8]), ["", "Hel ", "lo "], "the last word has no space after it");
    assert_eq!(pieces(0, &[3, 24, 4]), ["Hello", "", " world"], "words without a decoder");
}

#[test]
fn special_tokens_of_every_list_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    with(&Value::Null, folder.path());
    let config = folder.path().join("tokenizer_config.json");
    for (listed, expected) in [
        (json!({"extra_special_tokens": ["world"]}), ""),
        (json!({"extra_special_tokens": {"end_word": "world"}}), ""),
        (json!({"additional_special_tokens": [{"content": "world"}]}), ""),
        (json!({"extra_special_tokens": 5}), "world"),
    ] {
        fs::write(&config, listed.to_string()).unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        assert_eq!((tokenizer.decode(&[4], true).as_str(), tokenizer.is_special(4)), (expected, expected.is_empty()));
    }
}
