//! Clients that connect and do nothing, or too much of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lime_gateway::Options;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    TEXT,
    client::{get, post, post_open},
    fake::{Served, Setup, babble},
    figure, start,
};

const SOON: Duration = Duration::from_millis(100);
/// The preface of HTTP/2 and an empty SETTINGS frame.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn with(change: impl FnOnce(&mut Options)) -> (Served, SocketAddr) {
    let mut setup = Setup::default();
    change(&mut setup.options);
    start(setup, babble((300..900).collect())).await
}

/// Reads what comes until the server ends the connection.
async fn to_its_end(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await;
    // A reset is an end as well.
    let _ = read.expect("the connection is never ended");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_keep_nobody_out() {
    let (_served, addr) = with(|options| options.max_connections = Some(16)).await;
    let mut silent = Vec::new();
    for number in 0..320 {
        silent.push(TcpStream::connect(addr).await.unwrap());
        if number % 10 == 0 {
            let before = Instant::now();
            assert_eq!(get(addr, "/health").await.status, 200);
            // Far below any of the time limits, which are not what helps here.
            assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
        }
    }
    assert!(figure(addr, "lime_http_connections").await <= 16.0);
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 2});
    assert_eq!(post(addr, TEXT, &body).await.status, 200);
}

#[tokio::test]
async fn answers_under_way_do_not_give_way() {
    let (served, addr) = with(|options| options.max_connections = Some(4)).await;
    served.ring.with(|state| state.pass_time = Duration::from_millis(5));
    let body = json!({"model": "bard", "prompt": "x", "stream": true, "max_tokens": 100});
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(post_open(addr, TEXT, &body).await);
    }
    // The fourth place goes from one to the next, and first to those whose body does not come.
    let mut slow = TcpStream::connect(addr).await.unwrap();
    let head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    slow.write_all(head).await.unwrap();
    slow.write_all(b"content-length: 100\r\n\r\n{").await.unwrap();
    for _ in 0..20 {
        drop(TcpStream::connect(addr).await.unwrap());
        assert_eq!(get(addr, "/health").await.status, 200);
    }
    assert_eq!(to_its_end(slow).await, b"");
    streams.push(post_open(addr, TEXT, &body).await);
    // No place is left, and nobody to take one from.
    assert_eq!(to_its_end(TcpStream::connect(addr).await.unwrap()).await, b"");
    for mut stream in streams {
        assert_eq!(stream.events().await.last().unwrap()["choices"][0]["finish_reason"], "length");
    }
}

#[tokio::test]
async fn who_never_asks_is_let_go() {
    let (_served, addr) = with(|options| options.header_timeout = SOON).await;
    for begun in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET /health HTTP/1.1\r\nhost: x\r\n", HTTP2] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(begun).await.unwrap();
        to_its_end(stream).await;
    }
}

#[tokio::test]
async fn who_asks_no_more_is_let_go() {
    let (_served, addr) = with(|options| options.idle_timeout = SOON).await;
    for rest in [&b""[..], b"GET /hea"] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        stream.write_all(rest).await.unwrap();
        let answer = to_its_end(stream).await;
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"), "one answer, then the end");
    }
}

#[tokio::test]
async fn who_does_not_read_is_let_go() {
    let (served, addr) = with(|options| options.unread_timeout = SOON).await;
    let body = json!({"model": "bard", "prompt": "x", "stream": true, "max_tokens": 3}).to_string();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let text = |prefix: &[u8], text: &str| [prefix, &[text.len() as u8], text.as_bytes()].concat();
    // A client of HTTP/2 that has no room for a byte of an answer: POST, http, the path and so on, uncompressed.
    let head = [
        vec![0x83, 0x86],
        text(&[0x04], TEXT),
        text(&[0x01], "localhost"),
        text(&text(&[0x00], "content-type"), "application/json"),
    ];
    let mut stream = TcpStream::connect(addr).await.unwrap();
    for part in [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
        frame(1, 4, 1, &head.concat()),
        frame(0, 1, 1, body.as_bytes()),
    ] {
        stream.write_all(&part).await.unwrap();
    }
    to_its_end(stream).await;
    assert!(served.ring.with(|state| !state.passes.is_empty()), "it was a request");
}
