//! The two faces whose answers are choices, whole or streamed: chat and plain completions.

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};

use super::{
    SharedApp,
    asking::{self, Asked},
    encoder::Encoder,
    error::ApiError,
    fields::Fields,
    job::{Job, Kind},
    shape::Shape,
    stream, whole,
};

/// What tells the one from the other.
pub(super) struct Face {
    pub(super) route: &'static str,
    pub(super) kind: Kind,
    /// The fields that it knows.
    pub(super) known: &'static [&'static [&'static str]],
    pub(super) read: fn(Fields<'_>, &Encoder<'_>) -> Result<Job, ApiError>,
}

/// Answers a request to `face`.
pub(super) async fn handle(app: SharedApp, request: Request, face: &'static Face) -> Response {
    let asked = asking::asked(&app, &request, face.route);
    let response = answer(app, request, face, &asked).await.unwrap_or_else(IntoResponse::into_response);
    asking::answered(asked, response)
}

async fn answer(app: SharedApp, request: Request, face: &'static Face, asked: &Asked) -> Result<Response, ApiError> {
    let job = asking::hear_known(&app, request, face.known, face.read).await?;
    let pieces = asking::begin(&app, &job, asked).await?;
    let shape = Shape::new(face.kind, &app.served_name, &app.fingerprint, job.common.return_token_ids);
    if job.common.stream {
        Ok(stream::respond(job, shape, app.text.clone(), pieces))
    } else {
        Ok(whole::respond(&job, &shape, &app.text, pieces).await)
    }
}
