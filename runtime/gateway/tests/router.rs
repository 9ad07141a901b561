//! Several models behind one endpoint, each with a gateway that is played here.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{io::Write as _, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    http::StatusCode,
    response::sse::{Event, Sse},
    routing::{get, post},
};
use flate2::{Compression, write::GzEncoder};
use futures::stream;
use lime_gateway::{Backend, RouterError, RouterHandle, start_router};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A gateway that answers with its own name and what it was asked, for clients with its key.
async fn gateway(name: &'static str, key: &'static str) -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let allowed = move |headers: &axum::http::HeaderMap| {
        key.is_empty() || headers.get("authorization").is_some_and(|found| found == &format!("Bearer {key}"))
    };
    let complete = move |headers: axum::http::HeaderMap, body: Bytes| async move {
        if !allowed(&headers) {
            return (StatusCode::UNAUTHORIZED, "no key".to_owned());
        }
        assert!(headers.get("connection").is_none() && headers.get("x-hop").is_none(), "{headers:?}");
        let trace = headers.get("traceparent").map_or("", |value| value.to_str().unwrap());
        (StatusCode::OK, format!("{name} {trace} {}", String::from_utf8_lossy(&body)))
    };
    let models = move |headers: axum::http::HeaderMap| async move {
        let list = json!({ "object": "list", "data": [{ "id": name, "object": "model" }, { "id": "another's", "object": "model" }] });
        if allowed(&headers) { (StatusCode::OK, Json(list)) } else { (StatusCode::UNAUTHORIZED, Json(Value::Null)) }
    };
    let ready = || async { Json(json!({ "status": "ready" })) };
    let routes = Router::new()
        .route("/v1/completions", post(complete))
        .route("/v1/models", get(models))
        .route("/ready", get(ready));
    tokio::spawn(axum::serve(listener, routes).into_future());
    format!("{name}=http://{address}").parse().unwrap()
}

async fn router(backends: Vec<Backend>) -> RouterHandle {
    start_router(([127, 0, 0, 1], 0).into(), backends).await.unwrap()
}

async fn say(router: &RouterHandle, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> String {
    let mut socket = TcpStream::connect(router.addr()).await.unwrap();
    let body = body.as_ref();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close, x-hop\r\nx-hop: 1\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn backends_are_read_as_people_write_them() {
    let read = |text: &str| text.parse::<Backend>();
    assert_eq!(read("org/m=http://host/").unwrap(), read("org/m=http://host:80").unwrap());
    assert_eq!(read("m=http://[::1]:8000").unwrap().model, "m");
    for wrong in
        ["", "m", "=http://host", "m=https://host", "m=http://", "m=http://host/v1", "m=http://u@host", "m=host:1"]
    {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn requests_go_to_the_model_that_they_name() {
    let router = router(vec![gateway("a", "").await, gateway("b", "key").await]).await;
    let asked = |model: &str| format!("{{\"model\":\"{model}\",\"prompt\":\"x\"}}");
    let to_a = say(&router, "POST", "/v1/completions", "traceparent: t\r\n", &asked("a")).await;
    assert!(to_a.starts_with("HTTP/1.1 200") && to_a.ends_with(&format!("a t {}", asked("a"))), "{to_a}");
    // Keys pass through: what they open is the gateways' affair.
    let refused = say(&router, "POST", "/v1/completions", "", &asked("b")).await;
    assert!(refused.starts_with("HTTP/1.1 401") && refused.ends_with("no key"), "{refused}");
    let key = "authorization: Bearer key\r\n";
    let to_b = say(&router, "POST", "/v1/completions", key, &asked("b")).await;
    assert!(to_b.contains("\r\n\r\nb  "), "{to_b}");
    for (body, status, words) in [
        (asked("c"), "404", "model_not_found"),
        ("{}".into(), "400", "This server has 'a', 'b'."),
        ("{\"model\":3}".into(), "400", "a string"),
        ("nonsense".into(), "400", "no JSON object"),
    ] {
        let answer = say(&router, "POST", "/v1/completions", "", &body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words), "{body}: {answer}");
    }
    router.stop().await;
}

#[tokio::test]
async fn requests_are_read_as_a_gateway_reads_them() {
    let router = router(vec![gateway("a", "").await, gateway("b", "").await]).await;
    let plain = r#"{"model":"a","prompt":"\ud83d"}"#;
    let mended = r#"{"model":"a","prompt":"\ufffd"}"#;
    for path in ["/completions", "//v1/completions/"] {
        let answer = say(&router, "POST", path, "", format!("\u{feff}{plain}")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(mended), "{path}: {answer}");
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(plain.as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    let answer = say(&router, "POST", "/v1/completions", "content-encoding: gzip\r\n", &packed).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(mended), "its gateway gets it as it is: {answer}");
    let refused = say(&router, "POST", "/v1/completions", "content-encoding: br\r\n", &packed).await;
    assert!(refused.starts_with("HTTP/1.1 415"), "{refused}");
    router.stop().await;
}

#[tokio::test]
async fn models_are_those_that_the_client_may_use() {
    let away: Backend = "away=http://127.0.0.1:9".parse().unwrap();
    let router = router(vec![gateway("a", "one").await, gateway("b", "key").await, away]).await;
    let listed = say(&router, "GET", "/v1/models", "authorization: Bearer key\r\n", "").await;
    assert!(
        listed.contains("\"id\":\"b\"") && !listed.contains("\"id\":\"a\"") && !listed.contains("another"),
        "{listed}"
    );
    let refused = say(&router, "GET", "/v1/models", "", "").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let ready = say(&router, "GET", "/ready", "", "").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("away: "), "{ready}");
    let unanswered = say(&router, "POST", "/v1/completions", "", "{\"model\":\"away\"}").await;
    assert!(unanswered.starts_with("HTTP/1.1 503") && unanswered.contains("retry-after"), "{unanswered}");
    let twice = start_router(([127, 0, 0, 1], 0).into(), vec![gateway("a", "").await, gateway("a", "").await]).await;
    assert!(matches!(twice, Err(RouterError::Twice(_))), "{twice:?}");
}

#[tokio::test]
async fn tokens_come_as_they_are_drawn_and_a_client_that_leaves_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = format!("m=http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (left, mut noticed) = mpsc::unbounded_channel();
    let stream = move || async move {
        // One event, then nothing: it is dropped when nobody listens any more.
        let events = stream::unfold((0, Left(left)), |(count, left)| async move {
            if count > 0 {
                std::future::pending::<()>().await;
            }
            Some((Ok::<_, std::convert::Infallible>(Event::default().data("first")), (count + 1, left)))
        });
        Sse::new(events)
    };
    let routes = Router::new().route("/v1/completions", post(stream));
    tokio::spawn(axum::serve(listener, routes).into_future());
    let router = router(vec![backend]).await;
    let mut socket = TcpStream::connect(router.addr()).await.unwrap();
    let body = "{\"prompt\":\"x\"}";
    let request = format!("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("data: first") {
        let mut part = [0; 512];
        let read = tokio::time::timeout(Duration::from_secs(30), socket.read(&mut part)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..read]);
    }
    drop(socket);
    let gone = tokio::time::timeout(Duration::from_secs(30), noticed.recv()).await.unwrap();
    assert_eq!(gone, Some(()), "the gateway's stream is dropped when the client is gone");
}

/// Tells when it is dropped.
struct Left(mpsc::UnboundedSender<()>);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}
