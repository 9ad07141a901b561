//! The way to the API server: a client that bears what API servers do on bad days, and that writes only while this replica leads.
//!
//! An answer that does not come, breaks off or asks for patience is asked for again a few times, since everything the operator asks
//! may be asked twice: reads, server-side apply, and deletions of one certain object. Watches are left to their watcher, which
//! starts over by itself. A write is let through only while the Lease is held, looked up for each try: a process that was
//! paused in the middle of a visit stops there.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::RETRY_AFTER};
use kube::{
    Client, Config, Error,
    client::{Body, ClientBuilder},
};
use lime_backoff::Backoff;
use thiserror::Error;
use tower::Service;

use crate::leader::Leadership;

/// How long an answer may take, all of it but for watches: of those, the beginning.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a question is asked in all.
const TRIES: u32 = 4;
/// The longest wait that an API server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const ASKING: Backoff = Backoff::doubling(Duration::from_millis(200), LONGEST_WAIT);

/// Why a question was given up here, where the API server did not refuse it.
#[derive(Debug, Error)]
pub enum ClientError {
    /// This replica does not lead, or leads no more.
    #[error("nothing is written: this replica does not hold the Lease")]
    NotLeading,
    /// No answer came.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// The operator's clients: one for its work, whose writes need `leadership`, and one for the Lease itself.
///
/// # Errors
/// If the configuration names no usable cluster.
pub fn connect(mut config: Config, leadership: Leadership) -> Result<(Client, Client), Error> {
    // kube's own retries would go on after the Lease is lost, and know nothing of answers that break off.
    config.default_retry = false;
    let plain: Client = ClientBuilder::try_from(config)?.build();
    Ok((careful(plain.clone(), leadership), plain))
}

/// `plain` with patience, and with writes only under `leadership`.
pub fn careful(plain: Client, leadership: Leadership) -> Client {
    let namespace = plain.default_namespace().to_owned();
    Client::new(Careful { plain, leadership }, namespace)
}

#[derive(Clone)]
struct Careful {
    plain: Client,
    leadership: Leadership,
}

impl Service<Request<Body>> for Careful {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let careful = self.clone();
        Box::pin(async move { careful.ask(request).await })
    }
}

impl Careful {
    async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let watch = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let mut tried = 0;
        loop {
            tried += 1;
            if parts.method != Method::GET && !self.leadership.holds() {
                return Err(Error::Service(Box::new(ClientError::NotLeading)));
            }
            let again = Request::from_parts(parts.clone(), Body::from(body.clone()));
            let answer = match tokio::time::timeout(PATIENCE, self.once(again, watch)).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::Service(Box::new(ClientError::Silent))),
            };
            let wait = if watch { None } else { wait(&parts.method, &answer, tried) };
            let Some(wait) = wait else { return answer };
            tracing::debug!(method = %parts.method, path = parts.uri.path(), ?wait, "asked again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(&self, request: Request<Body>, watch: bool) -> Result<Response<Body>, Error> {
        let (head, body) = self.plain.send(request).await?.into_parts();
        // What breaks off is noticed here, where it can be asked for again.
        let body = if watch { body } else { Body::from(body.collect_bytes().await?) };
        Ok(Response::from_parts(head, body))
    }
}

/// How long to wait before the question is asked again; `None` where the answer stands.
fn wait(method: &Method, answer: &Result<Response<Body>, Error>, tried: u32) -> Option<Duration> {
    let repeatable = matches!(*method, Method::GET | Method::PATCH | Method::DELETE);
    if !repeatable || tried >= TRIES {
        return None;
    }
    let asked = match answer {
        Ok(response) if !trouble(response.status()) => return None,
        Ok(response) => retry_after(response.headers()),
        Err(_) => None,
    };
    Some(ASKING.after(tried).max(asked.unwrap_or_default()).min(LONGEST_WAIT))
}

/// Whether the server is in trouble, rather than the question.
fn trouble(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, retry_after: Option<&str>) -> Result<Response<Body>, Error> {
        let mut response = Response::builder().status(code);
        if let Some(seconds) = retry_after {
            response = response.header(RETRY_AFTER, seconds);
        }
        Ok(response.body(Body::empty()).unwrap())
    }

    #[test]
    fn what_is_asked_again_and_when() {
        let silent = || Err(Error::Service(Box::new(ClientError::Silent)));
        let milliseconds = |wait: Option<Duration>| wait.map(|wait| wait.as_millis());
        let table = [
            (Method::GET, answer(200, None), 1, None),
            (Method::GET, answer(404, None), 1, None),
            (Method::PATCH, answer(409, None), 1, None),
            (Method::GET, answer(410, None), 1, None),
            (Method::GET, answer(500, None), 1, Some(200)),
            (Method::PATCH, answer(503, None), 2, Some(400)),
            (Method::DELETE, answer(429, Some("1")), 1, Some(1000)),
            (Method::GET, answer(429, Some("7200")), 1, Some(10_000)),
            (Method::GET, answer(429, Some("-1")), 1, Some(200)),
            (Method::GET, answer(429, Some("Wed, 21 Oct 2026 07:28:00 GMT")), 1, Some(200)),
            (Method::GET, silent(), 3, Some(800)),
            (Method::GET, silent(), 4, None),
            // A second POST might make a second object.
            (Method::POST, silent(), 1, None),
            (Method::PUT, answer(500, None), 1, None),
        ];
        for (index, (method, answer, tried, expected)) in table.into_iter().enumerate() {
            assert_eq!(milliseconds(wait(&method, &answer, tried)), expected, "row {index}");
        }
    }
}
