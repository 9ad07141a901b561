//! `/v1/responses`: a conversation's next items. Stateless: nothing is kept between requests.

mod items;
mod object;
mod read;
mod write;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};

use super::{
    SharedApp,
    asking::{self, Asked},
    error::ApiError,
    said::Said,
    sse,
};
use object::Object;

/// Where it is asked.
pub(super) const ROUTE: &str = "/v1/responses";

/// Answers a request.
pub(super) async fn handle(State(app): State<SharedApp>, request: Request) -> Response {
    let asked = asking::asked(&app, &request, ROUTE);
    let response = answer(app, request, &asked).await.unwrap_or_else(IntoResponse::into_response);
    asking::answered(asked, response)
}

async fn answer(app: SharedApp, request: Request, asked: &Asked) -> Result<Response, ApiError> {
    let hearing = asking::hear_known(&app, request, &read::KNOWN, |fields, encoder| {
        Ok((read::read(fields, encoder)?, read::told(fields)))
    });
    let (job, told) = hearing.await?;
    let mut pieces = asking::begin(&app, &job, asked).await?;
    let object = Object::new(&app.served_name, told, job.prompt_tokens());
    if job.common.stream {
        return Ok(sse::respond(write::Writer::new(object), pieces));
    }
    let mut said = Said::default();
    while let Some(piece) = pieces.recv().await {
        said.push(piece).map_err(|fault| ApiError::of_stream(&fault))?;
    }
    let items = said.parts.iter().map(items::Item::whole).collect();
    Ok(Json(object.ended(&items::written(items), said.reason, said.drawn, said.cached)).into_response())
}
