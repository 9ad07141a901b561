//! One request to a gateway: a connection of its own, and the answer's body as it comes. A client that leaves drops it, and the
//! gateway sees the connection close.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// How long a gateway may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take for a page about itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest page that is read.
const LONGEST: usize = 1 << 20;
/// What is between two neighbours and goes no further.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Sends a client's request on; the answer is its gateway's, word for word.
pub(super) async fn send(authority: &str, head: Parts, body: Vec<u8>) -> Result<Response, String> {
    let mut headers = head.headers;
    strip(&mut headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(head.method).uri(path);
    if let Some(found) = request.headers_mut() {
        *found = headers;
    }
    let request = request.header(header::HOST, authority).body(Full::new(Bytes::from(body)));
    let answer = exchange(authority, request.map_err(|error| error.to_string())?).await?;
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    Ok(Response::from_parts(head, Body::new(body)))
}

/// A gateway's page, as JSON.
pub(super) async fn ask(
    authority: &str,
    path: &str,
    authorization: Option<HeaderValue>,
) -> Result<(StatusCode, Value), String> {
    let mut request = Request::get(path).header(header::HOST, authority);
    if let Some(key) = authorization {
        request = request.header(header::AUTHORIZATION, key);
    }
    let request = request.body(Full::default()).map_err(|error| error.to_string())?;
    let asking = async {
        let (head, body) = exchange(authority, request).await?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.map_err(|error| error.to_string())?;
        Ok((head.status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
    };
    timeout(PATIENCE, asking).await.map_err(|_| "no answer in time".to_owned())?
}

async fn exchange(
    authority: &str,
    request: Request<Full<Bytes>>,
) -> Result<hyper::Response<hyper::body::Incoming>, String> {
    let connecting = timeout(CONNECT, TcpStream::connect(authority)).await;
    let stream = connecting.map_err(|_| "no connection in time".to_owned())?.map_err(|error| error.to_string())?;
    // Tokens are small and are wanted at once.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// Takes away what is between two neighbours, what `Connection` names included.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}
