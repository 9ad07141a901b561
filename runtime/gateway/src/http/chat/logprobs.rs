//! Which log-probabilities a chat asks for.

use crate::http::{
    error::ApiError,
    fields::{Fields, wrong_value},
};

const MOST_ALTERNATIVES: i64 = 20;

/// Alternatives to report for each token; `None`: nothing is reported.
pub(super) fn logprobs(fields: Fields<'_>) -> Result<Option<u32>, ApiError> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=MOST_ALTERNATIVES)?;
    if top.is_some_and(|top| top > 0) && !wanted {
        return Err(wrong_value("top_logprobs", "it needs 'logprobs' to be true"));
    }
    Ok(wanted.then(|| top.unwrap_or(0) as u32))
}
