//! `/v1/completions`.

pub(super) mod read;

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
pub(super) const ROUTE: &str = "/v1/completions";

static FACE: Face = Face { route: ROUTE, kind: Kind::Text, known: &read::KNOWN, read: read::read };

/// Answers a request.
pub(super) async fn handle(State(app): State<SharedApp>, request: Request) -> Response {
    choices::handle(app, request, &FACE).await
}
