//! How far a model reaches: the attention window of each layer, and how many tokens it computes as its makers meant it. Where a change
//! of the rotary base sets in, the context ends here, and up to there it is exact.

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

/// The attention window of each layer, where one is in force there. In a family that has none a window is a limit: up to it full
/// attention is the same.
pub(crate) fn windows(
    fields: &Fields<'_>,
    family: &Family,
    rotates: &[bool],
) -> Result<(Vec<Option<usize>>, Option<Limit>), FileError> {
    let layers = rotates.len();
    let default = if fields.has("sliding_window") { None } else { family.window };
    // Zero is written where there is none.
    let none = fields.get("sliding_window").is_some_and(|value| value.as_u64() == Some(0));
    let window = if none { None } else { fields.count("sliding_window", u64::MAX)?.or(default) };
    let flag = fields.flag("use_sliding_window", false)?;
    let listed = sliding_layers(fields, layers)?;
    if window.is_none() && listed.as_ref().is_some_and(|listed| listed.contains(&true)) {
        return Err(fields.error("\"layer_types\" names \"sliding_attention\", and \"sliding_window\" is not given"));
    }
    let slides: Vec<bool> = match (family.window_by_flag, listed) {
        // The list of layers goes before the flag, as it does in transformers.
        (by_flag, Some(listed)) if by_flag || listed.contains(&true) || family.window_pattern.is_some() => listed,
        // Those that do not rotate, where there are such.
        (true, _) if rotates.contains(&false) => rotates.iter().map(|rotates| flag && !rotates).collect(),
        // A mixture's flag is of all layers.
        (true, _) if family.mixture.is_some() => vec![flag; layers],
        (true, _) => {
            let full_layers = match fields.get("max_window_layers") {
                Some(value) => value.as_u64().unwrap_or(0),
                None => 28,
            };
            (0..layers as u64).map(|layer| flag && layer >= full_layers).collect()
        }
        (false, _) => match family.window_pattern {
            Some(pattern) => {
                let own = if family.own_fields.contains(&PATTERN) { fields.count(PATTERN, u64::MAX)? } else { None };
                let pattern = own.unwrap_or(pattern);
                (1..=layers).map(|layer| !layer.is_multiple_of(pattern)).collect()
            }
            None => vec![true; layers],
        },
    };
    let windows: Vec<Option<usize>> = slides.into_iter().map(|slides| window.filter(|_| slides)).collect();
    if family.windows {
        return Ok((windows, None));
    }
    let limit = windows.iter().copied().flatten().min().map(|tokens| {
        let class = family.classes[0];
        Limit {
            tokens,
            why: format!("an attention window (\"sliding_window\": {tokens}), which {class} does not have"),
        }
    });
    Ok((vec![None; layers], limit))
}

/// Says that one layer in so many has none.
const PATTERN: &str = "sliding_window_pattern";

/// Which layers have a window, as `layer_types` says.
fn sliding_layers(fields: &Fields<'_>, layers: usize) -> Result<Option<Vec<bool>>, FileError> {
    let types = match fields.get("layer_types") {
        None => return Ok(None),
        Some(Value::Array(types)) => types,
        Some(other) => return Err(fields.wrong("layer_types", "a list", other)),
    };
    if types.len() != layers {
        let found = types.len();
        return Err(fields.error(format!("\"layer_types\" has {found} entries for {layers} layers")));
    }
    let slides = types.iter().map(|found| match found.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => {
            let found = kind(found);
            Err(fields.error(format!("\"layer_types\" names {found}: this build knows full attention alone")))
        }
    });
    slides.collect::<Result<_, _>>().map(Some)
}
