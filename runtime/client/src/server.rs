//! A server, and requests to it: JSON or text out, JSON, text or server-sent events back.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, body::Incoming, http::uri::Authority};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::{
    dial::Dial,
    error::ClientError,
    trust::{Trust, disbelief},
};

/// Longest reply that is read whole.
const LONGEST_REPLY: usize = 1 << 20;

/// A server and how to speak to it.
#[derive(Clone, Debug)]
pub struct Server {
    dial: Dial,
    scheme: &'static str,
    authority: String,
    prefix: String,
    key: Option<String>,
}

impl Server {
    /// Reads `http[s]://HOST[:PORT][/PREFIX]`; a trailing `/v1` is how some tools write it, and is ours to add.
    ///
    /// # Errors
    /// When that is not what `url` is, or what is to be trusted cannot be read.
    pub fn parse(url: &str, key: Option<String>, trust: &Trust) -> Result<Self, ClientError> {
        let refused = |what: &str| ClientError::Address(format!("{url:?} {what}"));
        let (scheme, port, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => ("http", 80, rest),
            (_, Some(rest)) => ("https", 443, rest),
            _ => return Err(refused("cannot be used: write http://HOST:PORT or https://HOST:PORT")),
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let whole = authority.parse::<Authority>().ok().filter(|parsed| !parsed.host().is_empty());
        let Some(whole) = whole else { return Err(refused("names no host: write http://HOST:PORT")) };
        let authority = match whole.port_u16() {
            Some(_) => authority.to_owned(),
            None => format!("{authority}:{port}"),
        };
        let prefix = prefix.trim_end_matches('/');
        let prefix = prefix.strip_suffix("v1").unwrap_or(prefix).trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let dial = Dial::tcp(authority.clone());
        let dial = if scheme == "https" { secured(dial, &whole, trust)? } else { dial };
        Ok(Self { dial, scheme, authority, prefix, key })
    }

    /// A server that is reached by `dial` and called `authority`.
    pub fn over(dial: Dial, authority: &str, key: Option<String>) -> Self {
        Self { dial, scheme: "http", authority: authority.to_owned(), prefix: String::new(), key }
    }

    /// A server that speaks TLS, is reached by `dial` and called `authority`.
    ///
    /// # Errors
    /// When a server cannot be called so, or what is to be trusted cannot be read.
    pub fn over_tls(dial: Dial, authority: &str, key: Option<String>, trust: &Trust) -> Result<Self, ClientError> {
        let nobody = |_| ClientError::Address(format!("{authority:?} names no host"));
        let dial = secured(dial, &authority.parse().map_err(nobody)?, trust)?;
        Ok(Self { dial, scheme: "https", authority: authority.to_owned(), prefix: String::new(), key })
    }

    /// Where this server is, for people.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.prefix)
    }

    /// Sends a request and returns the reply's head; the body comes as it is read.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let away = |source: io::Error| match disbelief(&source) {
            Some(reason) => ClientError::Stranger { url: self.url(), reason },
            None => ClientError::Away { url: self.url(), source },
        };
        let stream = self.dial.open().await.map_err(away)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| away(io::Error::other(error)))?;
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.prefix)).header("host", &self.authority);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let payload = match body {
            Some(json) => {
                request = request.header("content-type", "application/json");
                Bytes::from(json.to_string())
            }
            None => Bytes::new(),
        };
        let unwritable = |error: hyper::http::Error| {
            ClientError::Address(format!("a request to {} cannot be written: {error}", self.url()))
        };
        let request = request.body(Full::new(payload)).map_err(unwritable)?;
        sender.send_request(request).await.map_err(|error| self.broke_off(&error))
    }

    /// The reply to a GET, whatever it is.
    ///
    /// # Errors
    /// When there is none, or a refusal.
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let response = self.send("GET", path, None).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = self.read_whole(response).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The reply to a GET, as JSON.
    ///
    /// # Errors
    /// When there is none, or it is something else.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        let text = self.get_text(path).await?;
        serde_json::from_str(&text).map_err(|_| self.no_model_server(&format!("does not answer {path} in JSON")))
    }

    /// The name of the first model that the server lists.
    ///
    /// # Errors
    /// When it lists none.
    pub async fn first_model(&self) -> Result<String, ClientError> {
        let list = self.get("/v1/models").await?;
        list["data"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| self.no_model_server("lists no model"))
    }

    /// What the server says instead of an answer.
    pub(crate) async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let status = response.status().as_u16();
        match self.read_whole(response).await {
            Ok(body) => {
                let Refusal { code, message } = Refusal::read(&body);
                let message = if message.is_empty() { format!("{} answers {status}", self.url()) } else { message };
                ClientError::Refused { status, code, message, retry_after }
            }
            Err(error) => error,
        }
    }

    pub(crate) fn broke_off(&self, reason: &(impl ToString + ?Sized)) -> ClientError {
        ClientError::BrokeOff { url: self.url(), reason: reason.to_string() }
    }

    pub(crate) fn no_model_server(&self, what: &str) -> ClientError {
        ClientError::NoModelServer { url: self.url(), what: what.to_owned() }
    }

    async fn read_whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), LONGEST_REPLY).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| self.broke_off(&error))
    }
}

/// The way to the server that `authority` names, with TLS.
fn secured(dial: Dial, authority: &Authority, trust: &Trust) -> Result<Dial, ClientError> {
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let nobody = |_| ClientError::Address(format!("{authority:?} names no host that a certificate could be for"));
    Ok(dial.secured(name.try_into().map_err(nobody)?, trust.config()?))
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
            ("https://host", "https://host:443"),
            ("https://[::1]:8000/v1", "https://[::1]:8000"),
        ] {
            assert_eq!(Server::parse(url, None, &Trust::System).unwrap().url(), expected);
        }
        for url in ["", "host:8000", "ftp://host", "http://", "https://", "http:///x", "http://a b"] {
            let error = Server::parse(url, None, &Trust::System).unwrap_err().to_string();
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
