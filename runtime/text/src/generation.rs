//! What `generation_config.json` says about sampling: defaults for requests that leave it open.

use std::{fmt, path::Path};

use lime_files::{Fields, FileError, kind, read_bounded};
use serde_json::Value;

const GENERATION_FILE: &str = "generation_config.json";
const GENERATION_LIMIT: u64 = 1 << 20;

/// A model's own sampling defaults. Whatever the file leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Whether the model's makers sample at all; greedy where false.
    pub do_sample: Option<bool>,
    /// Temperature.
    pub temperature: Option<f32>,
    /// Nucleus.
    pub top_p: Option<f32>,
    /// Number of likeliest tokens; 0 for all.
    pub top_k: Option<u32>,
    /// Longest answer where the request names none.
    pub max_new_tokens: Option<u32>,
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
    /// What else the file asks for, which changes answers and is not done.
    pub unapplied: Vec<Unapplied>,
}

/// A wish of `generation_config.json` that is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unapplied {
    name: String,
    value: String,
}

impl fmt::Display for Unapplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{GENERATION_FILE} asks for {} {}, which is not applied", self.name, self.value)
    }
}

/// Fields that are obeyed, or that change no answer: what the file is, tokens that the tokenizer's files name, memory
/// and what else is returned.
const SETTLED: [&str; 24] = [
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "max_new_tokens",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "transformers_version",
    "_from_model_config",
    "_commit_hash",
    "trust_remote_code",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "return_dict_in_generate",
    "return_legacy_cache",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "disable_compile",
    "low_memory",
];

/// Whether a field's value asks for nothing: off, or what transformers does anyway.
fn is_neutral(name: &str, value: &Value) -> bool {
    match (name, value) {
        (_, Value::Null | Value::Bool(false)) => true,
        (_, Value::Array(list)) => list.is_empty(),
        (_, Value::Object(map)) => map.is_empty(),
        ("max_length", Value::Number(length)) => length.as_u64() == Some(20),
        (
            "repetition_penalty"
            | "encoder_repetition_penalty"
            | "typical_p"
            | "length_penalty"
            | "num_beams"
            | "num_beam_groups"
            | "num_return_sequences"
            | "guidance_scale",
            Value::Number(number),
        ) => number.as_f64() == Some(1.0),
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

impl GenerationConfig {
    /// Reads `generation_config.json` in `dir`. A folder without one has no defaults.
    ///
    /// # Errors
    /// A file that cannot be read, is no JSON, or has a value out of range.
    pub fn load(dir: &Path) -> Result<Self, FileError> {
        let path = dir.join(GENERATION_FILE);
        let bytes = match read_bounded(&path, GENERATION_LIMIT, "") {
            Err(FileError::Missing { .. }) => return Ok(Self::default()),
            other => other?,
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|fault| FileError::Wrong { path: path.clone(), reason: format!("not valid JSON: {fault}") })?;
        let fields = Fields::new(&path, &value)?;
        let do_sample = match fields.get("do_sample") {
            Some(_) => Some(fields.flag("do_sample", false)?),
            None => None,
        };
        let number = |name, high| Ok::<_, FileError>(fields.number(name, 0.0, high)?.map(|number| number as f32));
        Ok(Self {
            do_sample,
            temperature: number("temperature", 100.0)?,
            top_p: number("top_p", 1.0)?,
            // Some write -1 for all.
            top_k: fields.number("top_k", -1.0, f64::from(u32::MAX))?.map(|count| count.max(0.0) as u32),
            max_new_tokens: fields.count("max_new_tokens", u32::MAX.into())?.map(|count| count as u32),
            eos: fields.token_ids("eos_token_id")?,
            unapplied: fields
                .values()
                .filter(|(name, value)| !SETTLED.contains(&name.as_str()) && !is_neutral(name, value))
                .map(|(name, value)| Unapplied { name: short(name), value: kind(value) })
                .collect(),
        })
    }
}

fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GenerationConfig, FileError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(GENERATION_FILE), text).unwrap();
        GenerationConfig::load(folder.path())
    }

    #[test]
    fn what_is_not_applied_is_named_and_nothing_else() {
        let read = read(
            r#"{"do_sample": false, "temperature": 0.6, "top_k": 20, "max_new_tokens": 512, "eos_token_id": [1, 2],
                "pad_token_id": 0, "transformers_version": "5", "repetition_penalty": 1.1, "min_p": 0.05,
                "no_repeat_ngram_size": 3, "typical_p": 1.0, "num_beams": 1, "bad_words_ids": null, "max_length": 20,
                "suppress_tokens": [5], "something_new": "x"}"#,
        );
        let read = read.unwrap();
        assert_eq!((read.do_sample, read.top_k, read.max_new_tokens), (Some(false), Some(20), Some(512)));
        let named: Vec<String> = read.unapplied.iter().map(ToString::to_string).collect();
        let asks = |what: &str| format!("generation_config.json asks for {what}, which is not applied");
        let expected = [
            "repetition_penalty 1.1",
            "min_p 0.05",
            "no_repeat_ngram_size 3",
            "suppress_tokens a list",
            "something_new \"x\"",
        ];
        assert_eq!(named, expected.map(asks));
    }

    #[test]
    fn values_out_of_range_are_named() {
        for field in ["\"temperature\": -1", "\"top_p\": 2", "\"top_k\": \"many\"", "\"max_new_tokens\": 0"] {
            let fault = read(&format!("{{{field}}}")).unwrap_err().to_string();
            let name = field.split('"').nth(1).unwrap();
            assert!(fault.contains(name) && fault.contains(GENERATION_FILE), "{fault}");
        }
    }
}
