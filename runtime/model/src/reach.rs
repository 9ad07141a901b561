//! How many tokens a model computes as its makers meant it: where an attention window or a change of the rotary base sets in, the
//! context ends here, and up to there it is exact.

use lime_files::{Fields, FileError, kind};
use serde_json::Value;

use crate::family::Family;

/// A number of tokens up to which a model is exact without what this build does not have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) tokens: usize,
    /// What sets in beyond, in the config's own words.
    pub(crate) why: String,
}

/// The context under limits, and a sentence about the one that was met.
pub(crate) fn within(context: usize, limits: impl IntoIterator<Item = Limit>) -> (usize, Option<String>) {
    match limits.into_iter().min_by_key(|limit| limit.tokens).filter(|limit| limit.tokens < context) {
        None => (context, None),
        Some(Limit { tokens, why }) => {
            let remark = format!(
                "{why}: up to {tokens} tokens the model is exact without it, so the context is {tokens} of {context}"
            );
            (tokens, Some(remark))
        }
    }
}

/// The attention window, where one is in force in some layer.
pub(crate) fn window(fields: &Fields<'_>, family: &Family, layers: usize) -> Result<Option<Limit>, FileError> {
    let default = if fields.has("sliding_window") { None } else { family.window };
    let window = fields.count("sliding_window", u64::MAX)?.or(default);
    let flag = fields.flag("use_sliding_window", false)?;
    let slides = sliding_layers(fields, layers)?;
    let in_force = match (family.window_by_flag, slides) {
        (_, Some(true)) => true,
        // The list of layers goes before the flag, as it does in transformers.
        (true, Some(false)) => false,
        (true, None) => {
            let full_layers = match fields.get("max_window_layers") {
                Some(value) => value.as_u64().unwrap_or(0),
                None => 28,
            };
            flag && full_layers < layers as u64
        }
        (false, _) => true,
    };
    match window {
        _ if !in_force => Ok(None),
        None if slides == Some(true) => {
            Err(fields.error("\"layer_types\" names \"sliding_attention\", and \"sliding_window\" is not given"))
        }
        None => Ok(None),
        Some(tokens) => Ok(Some(Limit { tokens, why: format!("an attention window (\"sliding_window\": {tokens})") })),
    }
}

/// Whether any layer has a window, as `layer_types` says.
fn sliding_layers(fields: &Fields<'_>, layers: usize) -> Result<Option<bool>, FileError> {
    let types = match fields.get("layer_types") {
        None => return Ok(None),
        Some(Value::Array(types)) => types,
        Some(other) => return Err(fields.wrong("layer_types", "a list", other)),
    };
    if types.len() != layers {
        let found = types.len();
        return Err(fields.error(format!("\"layer_types\" has {found} entries for {layers} layers")));
    }
    let mut slides = false;
    for found in types {
        match found.as_str() {
            Some("full_attention") => {}
            Some("sliding_attention") => slides = true,
            _ => {
                let found = kind(found);
                return Err(
                    fields.error(format!("\"layer_types\" names {found}: this build knows full attention alone"))
                );
            }
        }
    }
    Ok(Some(slides))
}
