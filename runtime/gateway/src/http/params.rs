//! The parameters that chat and plain completions share.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    error::ApiError,
    fields::{Fields, in_range, wrong_type, wrong_value},
};
use crate::{sampling::SamplingParams, text::TextModel};

/// Names that both kinds of request know.
pub(super) const COMMON: [&str; 17] = [
    "model",
    "n",
    "stream",
    "stream_options",
    "stop",
    "seed",
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "user",
    "ignore_eos",
    "return_token_ids",
];

const MOST_STOPS: usize = 4;
const LONGEST_STOP: usize = 1024;
const MOST_BIASES: usize = 1024;
const MOST_CHOICES: i64 = 128;

/// What both kinds of request may ask for.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Choices for each prompt.
    pub(crate) n: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) stops: Vec<String>,
    pub(crate) sampling: SamplingParams,
    /// Extension: go on past the tokens that end an answer.
    pub(crate) ignore_eos: bool,
    /// Extension: name the tokens drawn.
    pub(crate) return_token_ids: bool,
}

impl Common {
    /// Reads them; what the request leaves open is the model's own default, then the API's.
    pub(super) fn read(fields: Fields<'_>, text: &TextModel) -> Result<Self, ApiError> {
        let stream = fields.flag("stream")?.unwrap_or(false);
        Ok(Self {
            n: fields.integer("n", 1..=MOST_CHOICES)?.unwrap_or(1) as usize,
            stream,
            include_usage: include_usage(fields, stream)?,
            stops: stops(fields)?,
            sampling: sampling(fields, text)?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            return_token_ids: fields.flag("return_token_ids")?.unwrap_or(false),
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
    })
}

fn seed(fields: Fields<'_>) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.get("seed") else { return Ok(None) };
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    seed.map(Some).ok_or_else(|| wrong_type("seed", "an integer", value))
}

/// A number that nobody knows beforehand.
pub(super) fn random() -> u64 {
    fastrand::u64(..)
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

fn stops(fields: Fields<'_>) -> Result<Vec<String>, ApiError> {
    let stops = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => {
            let text = |stop: &Value| stop.as_str().map(str::to_owned);
            let wrong = |stop: &Value| wrong_type("stop", "a string or an array of strings", stop);
            stops.iter().map(|stop| text(stop).ok_or_else(|| wrong(stop))).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type("stop", "a string or an array of strings", other)),
    };
    if stops.len() > MOST_STOPS {
        let found = stops.len();
        return Err(wrong_value("stop", format!("at most {MOST_STOPS} stop strings are allowed, but got {found}")));
    }
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > LONGEST_STOP) {
        return Err(wrong_value("stop", format!("a stop string has from 1 to {LONGEST_STOP} bytes")));
    }
    Ok(stops)
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
