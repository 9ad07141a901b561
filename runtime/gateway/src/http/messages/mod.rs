//! `/v1/messages`: the API of Anthropic.

mod blocks;
mod errors;
mod read;
mod write;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    SharedApp,
    asking::{self, Asked},
    error::ApiError,
    reading::check_model,
    said::Said,
    sse,
};
use blocks::{message, stop_reason, whole_block};
pub(super) use errors::in_its_form;

/// Where it is asked.
pub(super) const ROUTE: &str = "/v1/messages";
/// Where a conversation's tokens are counted.
pub(super) const COUNT: &str = "/v1/messages/count_tokens";

/// Answers a request.
pub(super) async fn handle(State(app): State<SharedApp>, request: Request) -> Response {
    let asked = asking::asked(&app, &request, ROUTE);
    let response = answer(app, request, &asked).await.unwrap_or_else(IntoResponse::into_response);
    asking::answered(asked, response)
}

/// Counts the tokens of a request.
pub(super) async fn count(State(app): State<SharedApp>, request: Request) -> Response {
    let counting = asking::hear(&app, request, |app, fields, encoder| {
        check_model(fields, &app.served_name)?;
        read::count(fields, encoder)
    });
    counting
        .await
        .map_or_else(IntoResponse::into_response, |tokens| Json(json!({"input_tokens": tokens})).into_response())
}

async fn answer(app: SharedApp, request: Request, asked: &Asked) -> Result<Response, ApiError> {
    let job = asking::hear_known(&app, request, &read::KNOWN, read::read).await?;
    let mut pieces = asking::begin(&app, &job, asked).await?;
    let prompt = job.prompt_tokens();
    if job.common.stream {
        return Ok(sse::respond(write::Writer::new(message(&app.served_name, prompt)), pieces));
    }
    let mut said = Said::default();
    while let Some(piece) = pieces.recv().await {
        said.push(piece).map_err(|fault| ApiError::of_stream(&fault))?;
    }
    let mut answer = message(&app.served_name, prompt);
    answer["content"] = said.parts.iter().map(whole_block).collect();
    answer["stop_reason"] = stop_reason(said.reason, said.stop.as_deref()).into();
    answer["stop_sequence"] = said.stop.into();
    answer["usage"]["output_tokens"] = said.drawn.into();
    // What was there already is counted apart in this API.
    answer["usage"]["input_tokens"] = prompt.saturating_sub(said.cached).into();
    answer["usage"]["cache_read_input_tokens"] = said.cached.into();
    Ok(Json(answer).into_response())
}
