//! Paths as clients are set up to write them: `//v1/models`, `/v1/models/`, `/models`.

use axum::{
    extract::Request,
    http::{Uri, uri::PathAndQuery},
};

const API: &str = "/v1";
/// What is served below [`API`]. Clients whose base address lacks it ask without.
const BELOW: [&str; 10] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/models",
    "/responses",
    "/messages",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
    "/apply-template",
];

/// The request with the path that was meant.
pub(super) async fn as_meant(mut request: Request) -> Request {
    if let Some(meant) = meant(request.uri().path())
        && let Some(uri) = with_path(request.uri(), &meant)
    {
        *request.uri_mut() = uri;
    }
    request
}

/// The path that was meant, where it is another one.
fn meant(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // A base address that has it, and paths that have it once more.
    while let ["v1", "v1", ..] = parts[..] {
        parts.remove(0);
    }
    let mut found = format!("/{}", parts.join("/"));
    if BELOW.iter().any(|known| found.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        found.insert_str(0, API);
    }
    (found != path).then_some(found)
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let whole = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(whole).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_were_meant() {
        for (path, expected) in [
            ("/v1/models", None),
            ("/", None),
            ("/health", None),
            ("//", Some("/")),
            ("//v1/models", Some("/v1/models")),
            ("/v1//chat/completions/", Some("/v1/chat/completions")),
            ("/v1/v1/models", Some("/v1/models")),
            ("/models", Some("/v1/models")),
            ("/models/org/name", Some("/v1/models/org/name")),
            ("/modelsx", None),
            ("/chat/completions/", Some("/v1/chat/completions")),
            ("/messages/count_tokens", Some("/v1/messages/count_tokens")),
            ("/health/", Some("/health")),
        ] {
            assert_eq!(meant(path).as_deref(), expected, "{path}");
        }
        let uri = Uri::from_static("http://host:1//models/?a=b//");
        assert_eq!(with_path(&uri, &meant(uri.path()).unwrap()).unwrap(), "http://host:1/v1/models?a=b//");
    }
}
