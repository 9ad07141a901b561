//! `/v1/chat/completions`.

mod calls;
mod logprobs;
mod messages;
pub(super) mod read;
pub(super) mod tools;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    SharedApp,
    choices::{self, Face},
    job::Kind,
};

/// Where it is asked.
pub(super) const ROUTE: &str = "/v1/chat/completions";

static FACE: Face = Face { route: ROUTE, kind: Kind::Chat, known: &read::KNOWN, read: read::read };

/// Answers a request.
pub(super) async fn handle(State(app): State<SharedApp>, request: Request) -> Response {
    choices::handle(app, request, &FACE).await
}
