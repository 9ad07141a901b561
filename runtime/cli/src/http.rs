//! A small HTTP client: JSON out, JSON or server-sent events back. Plain HTTP only.

mod ask;
mod events;

pub(crate) use ask::{Answer, AskError, Input, Question, ask};

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest reply that is read whole.
const LONGEST_REPLY: usize = 1 << 20;

/// A server and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    authority: String,
    prefix: String,
    key: Option<String>,
}

impl Server {
    /// Reads `http://HOST[:PORT][/PREFIX]`; a trailing `/v1` is how some tools write it, and is ours to add.
    pub(crate) fn parse(url: &str, key: Option<String>) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("{url:?} cannot be used: write http://HOST:PORT (there is no TLS in this client)");
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let whole = authority.parse::<hyper::http::uri::Authority>().ok().filter(|parsed| !parsed.host().is_empty());
        ensure!(whole.is_some(), "{url:?} names no host: write http://HOST:PORT");
        let authority = whole
            .filter(|parsed| parsed.port_u16().is_some())
            .map_or_else(|| format!("{authority}:80"), |_| authority.to_owned());
        let prefix = prefix.trim_end_matches('/');
        let prefix = prefix.strip_suffix("v1").unwrap_or(prefix).trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Self { authority, prefix, key })
    }

    /// Where this server is, for people.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.authority, self.prefix)
    }

    /// Sends a request and returns the reply's head; the body comes as it is read.
    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Response<Incoming>> {
        let away = || {
            let url = self.url();
            format!("no server answers at {url}: start one with `lime up -f FILE`, or name another with --url")
        };
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&self.authority)).await;
        let stream = connected.with_context(away)?.with_context(away)?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(away)?;
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.prefix)).header("host", &self.authority);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let payload = match body {
            Some(json) => {
                request = request.header("content-type", "application/json");
                Bytes::from(serde_json::to_vec(json)?)
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(payload)).context("the request cannot be written")?;
        sender.send_request(request).await.with_context(|| format!("{} did not answer", self.url()))
    }

    /// The reply to a GET, as JSON.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.send("GET", path, None).await?;
        let status = response.status();
        let body = read_whole(response).await?;
        ensure!(status.is_success(), "{}{path} answers {status}: {}", self.url(), Refusal::read(&body).message);
        serde_json::from_slice(&body)
            .with_context(|| format!("{}{path} does not answer in JSON: is it a model server?", self.url()))
    }

    /// The name of the first model that the server lists.
    pub(crate) async fn first_model(&self) -> anyhow::Result<String> {
        let list = self.get("/v1/models").await?;
        let name = list["data"][0]["id"].as_str();
        name.map(str::to_owned).with_context(|| format!("{} lists no model: is it a model server?", self.url()))
    }
}

async fn read_whole(response: Response<Incoming>) -> anyhow::Result<Bytes> {
    let body = Limited::new(response.into_body(), LONGEST_REPLY).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| anyhow::anyhow!("the reply broke off: {error}"))
}

/// What a server says of a request that it refuses.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: Option<String>,
    message: String,
}

impl Refusal {
    fn read(body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = json["error"]["message"].as_str().or(json["message"].as_str()).map(str::to_owned);
        let plain = || String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned();
        Self { code: json["error"]["code"].as_str().map(str::to_owned), message: message.unwrap_or_else(plain) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_read_as_people_write_them() {
        for (url, expected) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://host", "http://host:80"),
            ("http://host:1/v1/", "http://host:1"),
            ("http://host:1/a/b/", "http://host:1/a/b"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(Server::parse(url, None).unwrap().url(), expected);
        }
        for url in ["", "host:8000", "https://host", "http://", "http:///x", "http://a b"] {
            let error = Server::parse(url, None).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_shown_in_the_servers_words() {
        let said = |body: &[u8]| Refusal::read(body).message;
        assert_eq!(said(br#"{"error":{"message":"no"}}"#), "no");
        assert_eq!(said(b"plain"), "plain");
        assert_eq!(said(&[0xff; 3]), "\u{fffd}\u{fffd}\u{fffd}");
        let coded = Refusal::read(br#"{"error":{"message":"not yet","code":"model_loading"}}"#);
        assert_eq!(coded, Refusal { code: Some("model_loading".into()), message: "not yet".into() });
    }
}
