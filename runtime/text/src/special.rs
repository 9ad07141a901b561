//! The named special tokens of a folder, from `tokenizer_config.json` and `special_tokens_map.json`.

use std::path::Path;

use lime_files::{FileError, read_bounded};
use serde_json::{Map, Value};

const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
const LIMIT: u64 = 32 << 20;

/// What a folder's files say of its special tokens and its templates, read once.
#[derive(Default)]
pub(crate) struct Names {
    /// The object in `tokenizer_config.json`.
    pub(crate) config: Map<String, Value>,
    /// The texts of special tokens by name.
    pub(crate) special: Map<String, Value>,
}

impl Names {
    pub(crate) fn load(dir: &Path) -> Result<Self, FileError> {
        let config = tokenizer_config(dir)?;
        Ok(Self { special: special_tokens(dir, &config)?, config })
    }
}

/// The object in `tokenizer_config.json`, or an empty one where the folder has none.
fn tokenizer_config(dir: &Path) -> Result<Map<String, Value>, FileError> {
    optional_object(dir, TOKENIZER_CONFIG_FILE)
}

/// `bos_token`, `eos_token` and the like with their texts, and the model's own names such as `image_token`;
/// `tokenizer_config.json` goes first.
fn special_tokens(dir: &Path, config: &Map<String, Value>) -> Result<Map<String, Value>, FileError> {
    let names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let older = optional_object(dir, SPECIAL_TOKENS_FILE)?;
    let find = |name: &str| config.get(name).and_then(text_of).or_else(|| older.get(name).and_then(text_of));
    let own = OWN_NAMES.iter().filter_map(|field| config.get(*field)?.as_object()).flatten();
    let own = own.filter_map(|(name, token)| Some((name.clone(), Value::String(text_of(token)?))));
    let mut tokens: Map<String, Value> = own.collect();
    tokens.extend(names.into_iter().filter_map(|name| Some((name.to_owned(), Value::String(find(name)?)))));
    Ok(tokens)
}

/// Fields of `tokenizer_config.json` with a model's own special tokens by name.
const OWN_NAMES: [&str; 2] = ["extra_special_tokens", "model_specific_special_tokens"];

/// The texts of the special tokens beside the usual ones, by a list or by names.
pub(crate) fn extra_special_tokens(config: &Map<String, Value>) -> Vec<String> {
    let fields = ["additional_special_tokens"].into_iter().chain(OWN_NAMES);
    let texts = fields.filter_map(|field| config.get(field)).flat_map(|value| match value {
        Value::Array(tokens) => tokens.iter().filter_map(text_of).collect::<Vec<_>>(),
        Value::Object(tokens) => tokens.values().filter_map(text_of).collect(),
        _ => Vec::new(),
    });
    texts.collect()
}

fn text_of(token: &Value) -> Option<String> {
    match token {
        Value::String(text) => Some(text.clone()),
        // The form of an added token with its properties.
        Value::Object(token) => token.get("content").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    }
}

fn optional_object(dir: &Path, file: &str) -> Result<Map<String, Value>, FileError> {
    let path = dir.join(file);
    let bytes = match read_bounded(&path, LIMIT, "") {
        Err(FileError::Missing { .. }) => return Ok(Map::new()),
        other => other?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(FileError::Wrong { path, reason: "expected a JSON object".into() }),
        Err(fault) => Err(FileError::Wrong { path, reason: format!("not valid JSON: {fault}") }),
    }
}
