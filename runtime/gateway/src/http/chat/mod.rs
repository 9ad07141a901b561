//! `/v1/chat/completions`.

mod logprobs;
mod messages;
pub(super) mod read;
pub(super) mod tools;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};

use super::{
    SharedApp,
    asking::{self, Asked},
    error::ApiError,
    job::Kind,
    reading::check_model,
    shape::Shape,
    stream, whole,
};

/// Where it is asked.
pub(super) const ROUTE: &str = "/v1/chat/completions";

/// Answers a request.
pub(super) async fn handle(State(app): State<SharedApp>, request: Request) -> Response {
    let asked = asking::asked(&app, &request, ROUTE);
    let response = answer(app, request, &asked).await.unwrap_or_else(IntoResponse::into_response);
    asking::answered(asked, response)
}

async fn answer(app: SharedApp, request: Request, asked: &Asked) -> Result<Response, ApiError> {
    let job = asking::hear(&app, request, |app, fields, encoder| {
        check_model(fields, &app.served_name)?;
        app.unknown.check(fields, &read::KNOWN)?;
        read::read(fields, encoder)
    });
    let job = job.await?;
    let pieces = asking::begin(&app, &job, asked).await?;
    let shape = Shape::new(Kind::Chat, &app.served_name, &app.fingerprint, job.common.return_token_ids);
    if job.common.stream {
        Ok(stream::respond(job, shape, app.text.clone(), pieces))
    } else {
        Ok(whole::respond(&job, &shape, &app.text, pieces).await)
    }
}
