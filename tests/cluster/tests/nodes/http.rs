//! The gateway's API over plain HTTP, as few bytes of a client as do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer that is no stream may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for a completion.
pub(crate) fn post(at: &str, question: &Value) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&exchange(at, question)?)?)
}

/// Asks for a completion; returns the body of the answer, which is 200.
pub(crate) fn exchange(at: &str, question: &Value) -> anyhow::Result<String> {
    let (status, body) = ask(at, "/v1/completions", Some(question))?;
    anyhow::ensure!(status == 200, "{status}: {body}");
    Ok(body)
}

/// Posts `body`, or gets where there is none: the status and the body of the answer.
pub(crate) fn ask(at: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (method, body) = body.map_or(("GET", String::new()), |body| ("POST", body.to_string()));
    write!(
        stream,
        // 1.0: an answer that ends with the connection, and is not cut into chunks.
        "{method} {path} HTTP/1.0\r\nHost: {at}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| anyhow::anyhow!("no answer"))?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| anyhow::anyhow!("no status: {head}"))?;
    Ok((status, body.to_owned()))
}
