//! Byte-level BPE: words cut by an expression that the file names, and merges that it lists.

use serde_json::{Value as Json, json};

use super::Vocabulary;
use crate::error::ModelError;

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// As the makers of the models have it; llama.cpp has one without marks in its place.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How the texts of a kind of vocabulary are cut.
struct Cut {
    /// The names of it in GGUF files.
    names: &'static [&'static str],
    normalizer: Json,
    steps: Vec<Json>,
    /// Whether a word that is a token is taken whole.
    ignore_merges: bool,
    /// Whether a text begins with a token of its own unless the file says otherwise.
    adds_bos: bool,
}

fn cuts() -> [Cut; 5] {
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let bytes =
        |cuts: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cuts });
    let plain = |names, steps| Cut { names, normalizer: Json::Null, steps, ignore_merges: false, adds_bos: false };
    [
        Cut {
            ignore_merges: true,
            adds_bos: true,
            ..plain(&["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"], vec![split(LLAMA_3), bytes(false)])
        },
        Cut {
            normalizer: json!({ "type": "NFC" }),
            ..plain(&["qwen2", "deepseek-r1-qwen", "megrez"], vec![split(QWEN_2), bytes(false)])
        },
        Cut { ignore_merges: true, adds_bos: true, ..plain(&["tekken"], vec![split(TEKKEN), bytes(false)]) },
        plain(&["smollm"], vec![json!({ "type": "Digits", "individual_digits": true }), bytes(true)]),
        plain(&["gpt-2"], vec![bytes(true)]),
    ]
}

/// The parts of `tokenizer.json` that make texts to tokens and back, and whether texts begin with a token of their own.
pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<(Json, bool), ModelError> {
    let metadata = &vocabulary.metadata;
    let name = metadata.text("tokenizer.ggml.pre")?.ok_or_else(|| metadata.missing("tokenizer.ggml.pre"))?;
    let Some(cut) = cuts().into_iter().find(|cut| cut.names.contains(&name)) else {
        let known: Vec<&str> = cuts().iter().filter_map(|cut| cut.names.first().copied()).collect();
        let reason = format!("\"tokenizer.ggml.pre\" is {name:?}, which is not supported: {} are", known.join(", "));
        return Err(metadata.error(reason));
    };
    let key = "tokenizer.ggml.merges";
    let merges = metadata.texts(key)?.filter(|merges| !merges.is_empty()).ok_or_else(|| metadata.missing(key))?;
    let pair = |merge: &String| {
        // A token may begin with what else parts two: there is no such blank, bytes of spaces are written otherwise.
        let (left, right) = merge.split_once(' ')?;
        Some([left.to_owned(), right.to_owned()])
    };
    let merges: Option<Vec<[String; 2]>> = merges.iter().map(pair).collect();
    let merges = merges.ok_or_else(|| metadata.error(format!("{key:?} has an entry that is no pair of tokens")))?;
    let tokenizer = json!({
        "normalizer": cut.normalizer,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": cut.steps },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": cut.ignore_merges,
            "vocab": vocabulary.ids(), "merges": merges,
        },
    });
    Ok((tokenizer, cut.adds_bos))
}
