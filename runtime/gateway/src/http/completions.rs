//! Reading a request for a plain completion.

use serde_json::Value;

use super::{
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
    job::{Job, Prompt, room},
    params::{COMMON, Common},
};
use crate::text::TextModel;

/// Names that only a plain completion knows.
const OWN: [&str; 4] = ["prompt", "echo", "suffix", "best_of"];
/// What the API draws where the request does not say.
const DEFAULT_MAX_TOKENS: i64 = 16;
const MOST_ALTERNATIVES: i64 = 20;
const PROMPT_FORMS: &str = "a string, an array of strings, an array of token ids, or an array of such arrays";

/// Reads and tokenizes, for a plan with room for sequences of `context` tokens.
pub(super) fn read(fields: Fields<'_>, text: &TextModel, context: u32) -> Result<Job, ApiError> {
    fields.only(&[&COMMON, &OWN])?;
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported("suffix", "this server continues a prompt, it does not fill gaps"));
    }
    let common = Common::read(fields, text)?;
    if fields.integer("best_of", 1..=128)?.is_some_and(|best_of| best_of as usize != common.n) {
        return Err(ApiError::unsupported("best_of", "only the value of 'n' is"));
    }
    let logprobs = fields.integer("logprobs", 0..=MOST_ALTERNATIVES)?.map(|top| top as u32);
    let echo = fields.flag("echo")?.unwrap_or(false);
    if echo && logprobs.is_some() {
        return Err(ApiError::unsupported("echo", "not together with 'logprobs': those of a prompt are not computed"));
    }
    let asked = fields.integer("max_tokens", 0..=i64::from(u32::MAX))?.unwrap_or(DEFAULT_MAX_TOKENS) as u32;
    let prompts = prompts(fields, text, echo)?;
    let room_of = |prompt: &Prompt| room(context, prompt.tokens.len(), Some(asked), "prompt");
    let max_tokens = prompts.iter().map(room_of).collect::<Result<_, _>>()?;
    Ok(Job { prompts, common, max_tokens, logprobs })
}

fn prompts(fields: Fields<'_>, text: &TextModel, echo: bool) -> Result<Vec<Prompt>, ApiError> {
    let missing = || ApiError::invalid("prompt", "missing_required_parameter", "Missing required parameter: 'prompt'.");
    let value = fields.get("prompt").ok_or_else(missing)?;
    let one = |value: &Value| match value {
        Value::String(prompt) => of_text(prompt, text, echo),
        Value::Array(ids) => of_ids(ids, text, echo),
        other => Err(wrong_type("prompt", PROMPT_FORMS, other)),
    };
    match value {
        Value::Array(list) if list.is_empty() => Err(wrong_value("prompt", "it is an empty array")),
        Value::Array(list) if !list[0].is_number() => list.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

fn of_text(prompt: &str, text: &TextModel, echo: bool) -> Result<Prompt, ApiError> {
    let tokens = text.encode(prompt, true).map_err(|fault| wrong_value("prompt", fault))?;
    if tokens.is_empty() {
        return Err(wrong_value("prompt", "it has no tokens, and this model has none to begin a text with"));
    }
    Ok(Prompt { tokens: tokens.into(), echo: if echo { prompt.to_owned() } else { String::new() } })
}

fn of_ids(ids: &[Value], text: &TextModel, echo: bool) -> Result<Prompt, ApiError> {
    let last = text.vocabulary - 1;
    let id = |value: &Value| {
        let unknown = || wrong_value("prompt", format!("{value} is no token id of this model (0 to {last})"));
        let id = value.as_u64().ok_or_else(|| wrong_type("prompt", PROMPT_FORMS, value))?;
        u32::try_from(id).ok().filter(|id| *id <= last).ok_or_else(unknown)
    };
    let tokens: Vec<u32> = ids.iter().map(id).collect::<Result<_, _>>()?;
    if tokens.is_empty() {
        return Err(wrong_value("prompt", "an array of token ids must not be empty"));
    }
    let echo = if echo { text.tokenizer.decode(&tokens, true) } else { String::new() };
    Ok(Prompt { tokens: tokens.into(), echo })
}
