//! Reading a request's body, within a size and a time.

use axum::body::{Body, HttpBody as _};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::error::ApiError;
use crate::Options;

/// The body as bytes.
pub(super) async fn read(body: Body, options: &Options) -> Result<Vec<u8>, ApiError> {
    let limit = options.body_limit;
    // What the client announces is refused before any of it is read.
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::large_body(limit));
    }
    timeout(options.body_timeout, gather(body, limit)).await.map_err(|_| ApiError::slow_body())?
}

async fn gather(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        let cut = |fault| ApiError::invalid("", "invalid_body", format!("The request's body was cut short: {fault}."));
        let part = part.map_err(cut)?;
        if bytes.len() + part.len() > limit {
            return Err(ApiError::large_body(limit));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// The body as JSON.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|fault| {
        let message = format!("We could not parse the JSON body of your request: {fault}.");
        ApiError::invalid("", "invalid_json", message)
    })
}
