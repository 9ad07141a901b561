//! Bearer tokens.

use std::hint::black_box;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{SharedApp, error::ApiError};
use crate::schedule::KeyId;

const X_API_KEY: &str = "x-api-key";

/// Lets a request through if it carries one of the gateway's keys, or if there are none.
pub(super) async fn check(State(app): State<SharedApp>, mut request: Request, next: Next) -> Response {
    match allowed(&app.api_keys, request.headers()) {
        Ok(key) => {
            if let Some(key) = key {
                request.extensions_mut().insert(key);
            }
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// The key that a request carries; none, where none is needed.
fn allowed(keys: &[String], headers: &HeaderMap) -> Result<Option<KeyId>, ApiError> {
    if keys.is_empty() {
        return Ok(None);
    }
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    // As clients of Anthropic's API send it.
    let bare = || headers.get(X_API_KEY).map(|value| value.as_bytes().trim_ascii());
    let Some(token) = given.and_then(bearer).or_else(bare) else {
        let message = "You didn't provide an API key: send it as 'Authorization: Bearer YOUR_KEY'.";
        return Err(ApiError::unauthorized(message));
    };
    // Every key is compared, whichever fits.
    let compared = |found: Option<KeyId>, (number, key): (usize, &String)| {
        let fits = same(key.as_bytes(), token);
        found.or(fits.then_some(KeyId(number)))
    };
    let found = keys.iter().enumerate().fold(None, compared);
    found.map(Some).ok_or_else(|| ApiError::unauthorized("Incorrect API key provided."))
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Equality in a time that depends on the length of `given` alone.
fn same(key: &[u8], given: &[u8]) -> bool {
    let mut difference = usize::from(key.len() != given.len());
    for (place, byte) in given.iter().enumerate() {
        // Past the key's end any byte will do: the lengths differ already.
        let other = key.get(place).copied().unwrap_or(0);
        difference |= usize::from(black_box(byte ^ other));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_whole_keys_open() {
        let keys = ["one".to_owned(), "second".to_owned()];
        let asks = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
            allowed(&keys, &headers).is_ok()
        };
        for good in ["Bearer one", "bearer second", "Bearer  one "] {
            assert!(asks(good), "{good}");
        }
        for bad in ["Bearer on", "Bearer onee", "Bearer ", "Basic one", "one", "Bearer", "Bearer one second"] {
            assert!(!asks(bad), "{bad}");
        }
        let bare = |value| HeaderMap::from_iter([(X_API_KEY.parse().unwrap(), HeaderValue::from_static(value))]);
        assert!(allowed(&keys, &bare("second")).is_ok() && allowed(&keys, &bare("Bearer second")).is_err());
        assert!(allowed(&keys, &HeaderMap::new()).is_err());
        assert!(allowed(&[], &HeaderMap::new()).is_ok());
    }
}
