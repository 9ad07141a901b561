//! The parameters that chat and plain completions share.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    error::ApiError,
    fields::{Fields, in_range, whole, wrong_type, wrong_value},
    stops,
};
use crate::{sampling::SamplingParams, text::TextModel};

/// Names that every kind of request knows.
pub(super) const COMMON: [&str; 26] = [
    "model",
    "n",
    "stream",
    "stream_options",
    "stop",
    "stop_token_ids",
    "seed",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "min_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "repeat_penalty",
    "logit_bias",
    "logprobs",
    "user",
    "ignore_eos",
    "add_special_tokens",
    "skip_special_tokens",
    "return_token_ids",
    "best_of",
    "prompt_cache_key",
];

/// What other servers know and this one cannot do: to ignore it would give answers that are not what was asked for.
pub(super) const PROMISES: [&str; 4] = ["use_beam_search", "prompt_logprobs", "bad_words", "allowed_token_ids"];

const MOST_BIASES: usize = 1024;
const MOST_CHOICES: i64 = 128;
/// More makes every repeated token all but impossible.
const MOST_REPETITION_PENALTY: f64 = 1e6;

/// What both kinds of request may ask for.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Choices for each prompt.
    pub(crate) n: usize,
    /// Answers drawn for each prompt, the best of which are its choices.
    pub(crate) drawn: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) stops: Vec<String>,
    /// Extension: tokens that end the answer, beside the model's own.
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) sampling: SamplingParams,
    /// Extension: go on past the tokens that end an answer.
    pub(crate) ignore_eos: bool,
    /// Extension: name the tokens drawn.
    pub(crate) return_token_ids: bool,
    /// Extension: leave special tokens out of texts, as is done where nothing is said.
    pub(crate) skip_special: bool,
}

impl Common {
    /// Reads them; what the request leaves open is the model's own default, then the API's.
    pub(super) fn read(fields: Fields<'_>, text: &TextModel) -> Result<Self, ApiError> {
        refuse_promises(fields)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let n = fields.integer("n", 1..=MOST_CHOICES)?.unwrap_or(1) as usize;
        Ok(Self {
            n,
            drawn: best_of(fields, n, stream)?,
            stream,
            include_usage: include_usage(fields, stream)?,
            stops: stops::texts(fields, "stop")?,
            stop_tokens: stops::tokens(fields, text.vocabulary)?,
            sampling: sampling(fields, text)?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            return_token_ids: fields.flag("return_token_ids")?.unwrap_or(false),
            skip_special: fields.flag("skip_special_tokens")?.unwrap_or(true),
        })
    }

    /// The sampling of choice `choice` of a prompt: the first draws as if it were the only one.
    pub(super) fn sampling_of(&self, choice: usize) -> SamplingParams {
        let mut sampling = self.sampling.clone();
        let step = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(choice as u64);
        sampling.seed = sampling.seed.wrapping_add(step);
        sampling
    }
}

fn refuse_promises(fields: Fields<'_>) -> Result<(), ApiError> {
    let asks = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    match PROMISES.into_iter().find(|name| fields.get(name).is_some_and(asks)) {
        None => Ok(()),
        Some(name) => {
            Err(ApiError::unsupported(name, "this server cannot do it, and without it the answer would be another"))
        }
    }
}

fn sampling(fields: Fields<'_>, text: &TextModel) -> Result<SamplingParams, ApiError> {
    let model = &text.generation;
    let temperature = match fields.number("temperature", 0.0..=2.0)? {
        Some(temperature) => temperature,
        None if model.do_sample == Some(false) => 0.0,
        None => model.temperature.unwrap_or(1.0),
    };
    // Some clients write -1 for all.
    let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?.map(|top_k| top_k.max(0) as u32);
    Ok(SamplingParams {
        temperature,
        top_p: fields.number("top_p", 0.0..=1.0)?.or(model.top_p).unwrap_or(1.0),
        top_k: top_k.or(model.top_k).unwrap_or(0),
        seed: seed(fields)?.unwrap_or_else(random),
        logprobs: None,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        logit_bias: logit_bias(fields, text.vocabulary)?,
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        repetition_penalty: repetition_penalty(fields)?,
        min_tokens: fields.integer("min_tokens", 0..=i64::from(u32::MAX))?.unwrap_or(0) as u32,
        held_back: Vec::new(),
    })
}

/// Under the name that most give it, or that of llama.cpp.
fn repetition_penalty(fields: Fields<'_>) -> Result<f32, ApiError> {
    for name in ["repetition_penalty", "repeat_penalty"] {
        let Some(penalty) = fields.number(name, 0.0..=MOST_REPETITION_PENALTY)? else { continue };
        return if penalty > 0.0 { Ok(penalty) } else { Err(wrong_value(name, "expected a number above 0")) };
    }
    Ok(1.0)
}

fn seed(fields: Fields<'_>) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.get("seed") else { return Ok(None) };
    let seed = value.as_u64().or_else(|| whole(value).map(i64::cast_unsigned));
    seed.map(Some).ok_or_else(|| wrong_type("seed", "an integer", value))
}

/// A number that nobody knows beforehand.
pub(super) fn random() -> u64 {
    fastrand::u64(..)
}

/// How many answers are drawn for `n` choices.
fn best_of(fields: Fields<'_>, n: usize, stream: bool) -> Result<usize, ApiError> {
    let Some(drawn) = fields.integer("best_of", 1..=MOST_CHOICES)? else { return Ok(n) };
    let drawn = drawn as usize;
    if drawn < n {
        return Err(wrong_value("best_of", format!("it must be at least 'n', which is {n}")));
    }
    if drawn > n && stream {
        return Err(wrong_value("best_of", "which answers are the best is known at their end: it cannot be streamed"));
    }
    Ok(drawn)
}

/// Most tokens of an answer; `None` where the request leaves it open, or says so with -1.
pub(super) fn max_tokens(fields: Fields<'_>, name: &str, least: i64) -> Result<Option<u32>, ApiError> {
    if fields.get(name).and_then(whole) == Some(-1) {
        return Ok(None);
    }
    let most = i64::from(u32::MAX);
    // Who asks for more than anything has asks for all there is.
    let bounded = |asked: i64| asked.min(most) as u32;
    Ok(fields.integer(name, least..=i64::MAX)?.map(bounded))
}

fn include_usage(fields: Fields<'_>, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(wrong_value("stream_options", "it is only allowed when 'stream' is true"));
    }
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(include)) => Ok(*include),
        Some(other) => Err(wrong_type("stream_options.include_usage", "a boolean", other)),
    }
}

fn logit_bias(fields: Fields<'_>, vocabulary: u32) -> Result<BTreeMap<u32, f32>, ApiError> {
    let Some(given) = fields.object("logit_bias")? else { return Ok(BTreeMap::new()) };
    if given.len() > MOST_BIASES {
        return Err(wrong_value("logit_bias", format!("at most {MOST_BIASES} tokens can have a bias")));
    }
    let mut biases = BTreeMap::new();
    for (token, bias) in given {
        let id = token.parse().ok().filter(|id| *id < vocabulary);
        let unknown =
            || wrong_value("logit_bias", format!("{token:?} is no token id of this model (0 to {})", vocabulary - 1));
        let bias = bias.as_f64().ok_or_else(|| wrong_type("logit_bias", "numbers", bias))?;
        in_range("logit_bias", bias, &(-100.0..=100.0))?;
        biases.insert(id.ok_or_else(unknown)?, bias as f32);
    }
    Ok(biases)
}
