//! `/v1/embeddings`: texts as directions. The states of a prompt behind the model's last norm, added up and brought to the length of one.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    SharedApp,
    asking::{self, Asked},
    completions,
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, wrong_value},
    job::{Prompt, room},
};
use crate::{
    intake::{SequenceEvent, SequenceHandle, SequenceRequest},
    sampling::SamplingParams,
};

/// Where it is asked.
pub(super) const ROUTE: &str = "/v1/embeddings";
/// Every name that is known here.
const KNOWN: [&[&str]; 1] = [&["model", "input", "encoding_format", "dimensions", "user", "add_special_tokens"]];

/// What is asked for.
struct Texts {
    prompts: Vec<Prompt>,
    /// As bytes in base64, and not as numbers.
    base64: bool,
    dimensions: Option<i64>,
}

/// Answers a request.
pub(super) async fn handle(State(app): State<SharedApp>, request: Request) -> Response {
    let asked = asking::asked(&app, &request, ROUTE);
    let response = answer(app, request, &asked).await.unwrap_or_else(IntoResponse::into_response);
    asking::answered(asked, response)
}

async fn answer(app: SharedApp, request: Request, asked: &Asked) -> Result<Response, ApiError> {
    let texts = asking::hear_known(&app, request, &KNOWN, read).await?;
    let tokens: usize = texts.prompts.iter().map(|prompt| prompt.tokens.len()).sum();
    let request = |prompt: Prompt| SequenceRequest {
        prompt: prompt.tokens,
        // A sequence ends with a draw: what it draws is of no interest.
        max_tokens: 1,
        sampling: SamplingParams { top_p: 1.0, ..SamplingParams::default() },
        end_tokens: Arc::default(),
        trace: asked.trace(),
        prediction: Arc::default(),
        key: asked.key(),
        matcher: None,
        scoring: None,
        pooling: Some(app.text.pooling),
    };
    let sequences = asking::admit(&app, texts.prompts.into_iter().map(request).collect()).await?;
    let mut data = Vec::with_capacity(sequences.len());
    for (index, sequence) in sequences.into_iter().enumerate() {
        let direction = direction(&pooled(sequence).await?);
        if let Some(asked) = texts.dimensions.filter(|asked| *asked != direction.len() as i64) {
            let what = format!("embeddings of this model have {} numbers, and {asked} were asked for", direction.len());
            return Err(wrong_value("dimensions", what));
        }
        let embedding = if texts.base64 { in_base64(&direction).into() } else { Value::from(direction) };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let answer = json!({"object": "list", "data": data, "model": app.served_name, "usage": usage});
    Ok(Json(answer).into_response())
}

fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Texts, ApiError> {
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(wrong_value("encoding_format", format!("{other:?} is neither float nor base64"))),
    };
    let special = fields.flag("add_special_tokens")?.unwrap_or(true);
    let dimensions = fields.integer("dimensions", 1..=i64::from(u32::MAX))?;
    let prompts = completions::read::prompts("input", fields, encoder, 1, false, special)?;
    for prompt in &prompts {
        room(encoder.extent.context, prompt.tokens.len(), Some(1), "input")?;
    }
    Ok(Texts { prompts, base64, dimensions })
}

/// The sum of a prompt's states.
async fn pooled(mut sequence: SequenceHandle) -> Result<Vec<i64>, ApiError> {
    loop {
        match sequence.next().await {
            SequenceEvent::Drawn { pooled, .. } if !pooled.is_empty() => return Ok(pooled),
            SequenceEvent::Drawn { .. } => {}
            SequenceEvent::Failed(fault) => return Err(ApiError::of_stream(&fault)),
        }
    }
}

/// Brought to the length of one: whether it was a sum or a mean makes no difference then. In order, so that it is the same everywhere.
fn direction(sums: &[i64]) -> Vec<f32> {
    let length = sums.iter().map(|sum| (*sum as f64) * (*sum as f64)).sum::<f64>().sqrt();
    let length = if length > 0.0 { length } else { 1.0 };
    sums.iter().map(|sum| (*sum as f64 / length) as f32).collect()
}

/// Numbers of four bytes, little-endian, in base64.
fn in_base64(numbers: &[f32]) -> String {
    STANDARD.encode(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_and_its_multiple_are_one_direction() {
        assert_eq!(direction(&[3 << 32, 4 << 32]), [0.6, 0.8]);
        assert_eq!(direction(&[30 << 32, 40 << 32]), [0.6, 0.8]);
        assert_eq!(direction(&[0, 0]), [0.0, 0.0]);
    }

    #[test]
    fn numbers_are_written_as_clients_read_them() {
        assert_eq!(in_base64(&[1.0, -0.5]), "AACAPwAAAL8=");
    }
}
