//! A plain HTTP client.

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|fault| panic!("{fault}: {}", self.text))
    }
}

/// An answer whose body has not come yet. Dropping it closes the connection.
pub(crate) struct Open {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffer: String,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Open {
    /// The data of the next event, if there is another.
    pub(crate) async fn event(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.buffer = rest;
                match event.strip_prefix("data: ") {
                    Some(data) => return Some(data.to_owned()),
                    None => continue,
                }
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("the stream stalls")?;
            let data = frame.ok()?.into_data().ok()?;
            self.buffer.push_str(std::str::from_utf8(&data).expect("events are UTF-8"));
        }
    }

    /// The kind and the data of the next event that has a kind, if there is another.
    pub(crate) async fn named_event(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.buffer = rest;
                match event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: ")) {
                    Some((kind, data)) => return Some((kind.to_owned(), data.to_owned())),
                    None => continue,
                }
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("the stream stalls")?;
            let data = frame.ok()?.into_data().ok()?;
            self.buffer.push_str(std::str::from_utf8(&data).expect("events are UTF-8"));
        }
    }

    /// Every event to the end, as JSON; `[DONE]` must be the last and is left out.
    pub(crate) async fn events(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            if event == "[DONE]" {
                assert_eq!(self.event().await, None);
                return events;
            }
            events.push(serde_json::from_str(&event).unwrap());
        }
        panic!("the stream ended without [DONE]: {events:?}");
    }
}

/// Sends a request and waits for the answer's head.
pub(crate) async fn open(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Open {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    let response = timeout(PATIENCE, sender.send_request(request)).await.expect("no answer").unwrap();
    let (head, body) = response.into_parts();
    Open { status: head.status, headers: head.headers, body, buffer: String::new(), connection }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut open = open(addr, method, path, headers, body).await;
    let mut bytes = Vec::new();
    while let Some(frame) = timeout(PATIENCE, open.body.frame()).await.expect("the body stalls") {
        if let Ok(data) = frame.unwrap().into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Answer { status: open.status, headers: open.headers.clone(), text: String::from_utf8(bytes).unwrap() }
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Answer {
    send(addr, "GET", path, &[], "").await
}

pub(crate) async fn post(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    send(addr, "POST", path, &[("content-type", "application/json")], body.to_string()).await
}

pub(crate) async fn post_open(addr: SocketAddr, path: &str, body: &Value) -> Open {
    open(addr, "POST", path, &[("content-type", "application/json")], body.to_string()).await
}
