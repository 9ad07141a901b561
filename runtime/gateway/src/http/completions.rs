//! Reading a request for a plain completion.

use serde_json::Value;

use super::{
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
    job::{Job, Prompt, check_choices, room},
    params::{COMMON, Common},
};

/// Names that only a plain completion knows.
const OWN: [&str; 4] = ["prompt", "echo", "suffix", "best_of"];
/// What the API draws where the request does not say.
const DEFAULT_MAX_TOKENS: i64 = 16;
const MOST_ALTERNATIVES: i64 = 20;
const PROMPT_FORMS: &str = "a string, an array of strings, an array of token ids, or an array of such arrays";

/// Reads and tokenizes.
pub(super) fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Job, ApiError> {
    fields.only(&[&COMMON, &OWN])?;
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported("suffix", "this server continues a prompt, it does not fill gaps"));
    }
    let common = Common::read(fields, encoder.text)?;
    if fields.integer("best_of", 1..=128)?.is_some_and(|best_of| best_of as usize != common.n) {
        return Err(ApiError::unsupported("best_of", "only the value of 'n' is"));
    }
    let logprobs = fields.integer("logprobs", 0..=MOST_ALTERNATIVES)?.map(|top| top as u32);
    let echo = fields.flag("echo")?.unwrap_or(false);
    if echo && logprobs.is_some() {
        return Err(ApiError::unsupported("echo", "not together with 'logprobs': those of a prompt are not computed"));
    }
    let asked = fields.integer("max_tokens", 0..=i64::from(u32::MAX))?.unwrap_or(DEFAULT_MAX_TOKENS) as u32;
    let prompts = prompts(fields, encoder, common.n, echo)?;
    let room_of = |prompt: &Prompt| room(encoder.extent.context, prompt.tokens.len(), Some(asked), "prompt");
    let max_tokens = prompts.iter().map(room_of).collect::<Result<_, _>>()?;
    Ok(Job { prompts, common, max_tokens, logprobs, prediction: [].into() })
}

fn prompts(fields: Fields<'_>, encoder: &Encoder<'_>, n: usize, echo: bool) -> Result<Vec<Prompt>, ApiError> {
    let missing = || ApiError::invalid("prompt", "missing_required_parameter", "Missing required parameter: 'prompt'.");
    let value = fields.get("prompt").ok_or_else(missing)?;
    let one = |value: &Value| match value {
        Value::String(prompt) => {
            let echo = if echo { prompt.clone() } else { String::new() };
            encoder.prompt("prompt", prompt, true, echo)
        }
        Value::Array(ids) => of_ids(ids, encoder, echo),
        other => Err(wrong_type("prompt", PROMPT_FORMS, other)),
    };
    let several = match value {
        Value::Array(list) if list.is_empty() => return Err(wrong_value("prompt", "it is an empty array")),
        Value::Array(list) if !list[0].is_number() => list.as_slice(),
        single => std::slice::from_ref(single),
    };
    check_choices(several.len(), n, encoder.extent.sequences)?;
    several.iter().map(one).collect()
}

fn of_ids(ids: &[Value], encoder: &Encoder<'_>, echo: bool) -> Result<Prompt, ApiError> {
    let last = encoder.text.vocabulary.saturating_sub(1);
    let id = |value: &Value| {
        let unknown = || wrong_value("prompt", format!("{value} is no token id of this model (0 to {last})"));
        let id = value.as_u64().ok_or_else(|| wrong_type("prompt", PROMPT_FORMS, value))?;
        u32::try_from(id).ok().filter(|id| *id <= last).ok_or_else(unknown)
    };
    let tokens: Vec<u32> = ids.iter().map(id).collect::<Result<_, _>>()?;
    if tokens.is_empty() {
        return Err(wrong_value("prompt", "an array of token ids must not be empty"));
    }
    // Before the ids are looked up: there may be many more than fit.
    room(encoder.extent.context, tokens.len(), Some(0), "prompt")?;
    let echo = if echo { encoder.text.tokenizer.decode(&tokens, true) } else { String::new() };
    encoder.known("prompt", tokens, echo)
}
