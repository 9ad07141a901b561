//! What `GET /` shows: to people the page, to programs what this server is.
//!
//! The page is a handful of files beside the crate's sources, served as they are: plain modules and style sheets that ask nobody but
//! this server.

mod files;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{SharedApp, error::ApiError};
use files::{File, INDEX};

/// What the page may do: run this server's own files, ask this server, and be framed by nobody. Text can become markup nowhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// `GET /`.
pub(super) async fn root(State(app): State<SharedApp>, headers: HeaderMap) -> Response {
    let mut response = if asks_for_a_page(&headers) { respond(&INDEX) } else { what_this_is(&app) };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /page/{file}`.
pub(super) async fn file(Path(name): Path<String>, method: Method, uri: Uri) -> Response {
    match files::find(&name) {
        Some(file) => respond(file),
        None => ApiError::unknown_path(method.as_str(), uri.path()).into_response(),
    }
}

/// Browsers name HTML; programs that take anything mean no page.
fn asks_for_a_page(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    kinds.flat_map(|kinds| kinds.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
    })
}

fn what_this_is(app: &SharedApp) -> Response {
    Json(json!({
        "name": "LIME",
        "version": env!("CARGO_PKG_VERSION"),
        "model": app.served_name,
        "status": app.status.phase().name(),
        "api": "/v1",
        "ready": "/ready",
        "live": "/lime/v1/live",
        "metrics": "/metrics",
    }))
    .into_response()
}

fn respond(file: &File) -> Response {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // An upgrade is seen at once, and no file of another build is mixed in.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ];
    ([(header::CONTENT_TYPE, file.kind)], HEADERS, file.text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_the_page_and_programs_do_not() {
        let asks = |accept: &str| {
            asks_for_a_page(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]))
        };
        assert!(asks("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(asks("TEXT/HTML;q=0.5"));
        assert!(!asks("*/*"));
        assert!(!asks("application/json"));
        assert!(!asks_for_a_page(&HeaderMap::new()));
    }
}
