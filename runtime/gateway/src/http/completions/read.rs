//! Reading a request for a plain completion.

use std::sync::Arc;

use serde_json::Value;

use crate::http::{
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
    form::{self, FORMS},
    job::{Job, Prompt, check_choices, room},
    params::{COMMON, Common, PROMISES, max_tokens},
};

/// Every name that is known here.
pub(super) const KNOWN: [&[&str]; 4] = [&COMMON, &FORMS, &OWN, &PROMISES];
/// Names that only a plain completion knows.
const OWN: [&str; 3] = ["prompt", "echo", "suffix"];
/// What the API draws where the request does not say.
const DEFAULT_MAX_TOKENS: u32 = 16;
const MOST_ALTERNATIVES: i64 = 20;
const PROMPT_FORMS: &str = "a string, an array of strings, an array of token ids, or an array of such arrays";

/// Reads and tokenizes.
pub(super) fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Job, ApiError> {
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported("suffix", "this server continues a prompt, it does not fill gaps"));
    }
    let common = Common::read(fields, encoder.text)?;
    let logprobs = fields.integer("logprobs", 0..=MOST_ALTERNATIVES)?.map(|top| top as u32);
    let echo = fields.flag("echo")?.unwrap_or(false);
    let scoring = logprobs.filter(|_| echo);
    if scoring.is_some() && common.drawn > common.n {
        return Err(wrong_value("best_of", "with the log-probabilities of the prompt every answer is given"));
    }
    // -1 asks for what fits.
    let asked = match fields.get("max_tokens") {
        Some(_) => max_tokens(fields, "max_tokens", 0)?,
        None => Some(DEFAULT_MAX_TOKENS),
    };
    let special = fields.flag("add_special_tokens")?.unwrap_or(true);
    let prompts = prompts("prompt", fields, encoder, common.drawn, echo, special)?;
    let room_of = |prompt: &Prompt| room(encoder.extent.context, prompt.tokens.len(), asked, "prompt");
    let max_tokens = prompts.iter().map(room_of).collect::<Result<_, _>>()?;
    if scoring.is_some() {
        // The token that ends the sequence needs a place, though it may not be told.
        let context = encoder.extent.context;
        prompts.iter().try_for_each(|prompt| room(context, prompt.tokens.len(), Some(1), "prompt").map(drop))?;
    }
    let grammar = form::read(fields)?.map(|form| form.compiled(encoder.text)).transpose()?;
    let (prediction, answer) = (Arc::default(), Arc::default());
    Ok(Job { prompts, common, max_tokens, logprobs, prediction, answer, grammar, scoring })
}

/// The texts, or lists of token ids, in the field `name`.
pub(in crate::http) fn prompts(
    name: &str,
    fields: Fields<'_>,
    encoder: &Encoder<'_>,
    n: usize,
    echo: bool,
    special: bool,
) -> Result<Vec<Prompt>, ApiError> {
    let missing =
        || ApiError::invalid(name, "missing_required_parameter", format!("Missing required parameter: '{name}'."));
    let value = fields.get(name).ok_or_else(missing)?;
    let one = |value: &Value| match value {
        Value::String(prompt) => {
            let echo = if echo { prompt.clone() } else { String::new() };
            encoder.prompt(name, prompt, special, echo)
        }
        Value::Array(ids) => of_ids(name, ids, encoder, echo),
        other => Err(wrong_type(name, PROMPT_FORMS, other)),
    };
    let several = match value {
        Value::Array(list) if list.is_empty() => return Err(wrong_value(name, "it is an empty array")),
        Value::Array(list) if !list[0].is_number() => list.as_slice(),
        single => std::slice::from_ref(single),
    };
    check_choices(several.len(), n, encoder.extent.sequences)?;
    several.iter().map(one).collect()
}

fn of_ids(name: &str, ids: &[Value], encoder: &Encoder<'_>, echo: bool) -> Result<Prompt, ApiError> {
    let last = encoder.text.vocabulary.saturating_sub(1);
    let id = |value: &Value| {
        let unknown = || wrong_value(name, format!("{value} is no token id of this model (0 to {last})"));
        let id = value.as_u64().ok_or_else(|| wrong_type(name, PROMPT_FORMS, value))?;
        u32::try_from(id).ok().filter(|id| *id <= last).ok_or_else(unknown)
    };
    let tokens: Vec<u32> = ids.iter().map(id).collect::<Result<_, _>>()?;
    if tokens.is_empty() {
        return Err(wrong_value(name, "an array of token ids must not be empty"));
    }
    // Before the ids are looked up: there may be many more than fit.
    room(encoder.extent.context, tokens.len(), Some(0), name)?;
    let echo = if echo { encoder.text.tokenizer.decode(&tokens, true) } else { String::new() };
    encoder.known(name, tokens, echo)
}
