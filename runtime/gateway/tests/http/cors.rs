//! Pages of other servers: who may ask and read.

use crate::{
    TEXT,
    client::{Answer, send},
    fake::{Setup, babble},
    start,
};

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const BODY: &str = r#"{"model": "bard", "prompt": "x", "max_tokens": 1}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

/// What a browser asks before a page's own request, and that request.
async fn page(setup: Setup, origin: &str) -> (Answer, Answer) {
    let (_served, addr) = start(setup, babble(vec![300])).await;
    let origin = ("origin", origin);
    let wishes = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-stainless-lang"),
        ("access-control-request-private-network", "true"),
    ];
    let before = send(addr, "OPTIONS", TEXT, &wishes, "").await;
    (before, send(addr, "POST", TEXT, &[JSON, origin, ("authorization", "Bearer secret")], BODY).await)
}

fn allowed(origins: &[&str]) -> Setup {
    Setup { origins: origins.iter().map(|origin| origin.parse().unwrap()).collect(), ..Setup::default() }
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn pages_of_this_machine_and_allowed_ones_read_answers() {
    for (setup, origin) in [
        (Setup::default(), "http://localhost:3000"),
        (Setup::default(), "http://127.0.0.1:5173"),
        (allowed(&["https://chat.example"]), "https://chat.example"),
        (allowed(&["https://chat.example", "https://other.example:8443"]), "https://other.example:8443"),
        (allowed(&["null"]), "null"),
        (allowed(&["*"]), "https://any.example"),
        (Setup { listen: "0.0.0.0:0".parse().unwrap(), ..allowed(&["https://chat.example"]) }, "https://chat.example"),
    ] {
        let (before, answer) = page(setup, origin).await;
        assert_eq!(before.status, 200, "{origin}");
        assert_eq!(header(&before, ALLOW_ORIGIN), origin);
        for name in ["authorization", "content-type", "x-stainless-lang"] {
            assert!(header(&before, "access-control-allow-headers").contains(name), "{origin}: {:?}", before.headers);
        }
        assert_eq!(header(&before, "access-control-allow-private-network"), "true");
        assert_eq!((answer.status.as_u16(), header(&answer, ALLOW_ORIGIN)), (200, origin));
        assert!(header(&answer, "access-control-expose-headers").contains("retry-after"));
        assert!(header(&answer, "vary").contains("origin"), "caches tell pages apart");
        assert_eq!(header(&answer, "access-control-allow-credentials"), "", "there are no cookies to send");
    }
}

#[tokio::test]
async fn other_pages_read_nothing() {
    for (setup, origin) in [
        (Setup::default(), "https://evil.example"),
        (Setup::default(), "null"),
        (allowed(&["https://chat.example"]), "https://evil.example"),
        (allowed(&["https://chat.example"]), "http://chat.example"),
        (allowed(&["https://chat.example"]), "https://chat.example:8443"),
        (allowed(&["https://chat.example"]), "https://chat.example.evil.example"),
    ] {
        let (before, answer) = page(setup, origin).await;
        assert_eq!((before.status.as_u16(), header(&before, ALLOW_ORIGIN)), (403, ""), "{origin}");
        assert_eq!((answer.status.as_u16(), header(&answer, ALLOW_ORIGIN)), (403, ""), "{origin}");
        assert!(answer.text.contains(&format!("--allow-origin {origin}")), "{}", answer.text);
    }
    // Beyond loopback a page's own request is answered as any program's, and its script does not get to read it.
    let elsewhere = Setup { listen: "0.0.0.0:0".parse().unwrap(), ..Setup::default() };
    let (before, answer) = page(elsewhere, "https://evil.example").await;
    assert_eq!((header(&before, ALLOW_ORIGIN), header(&answer, ALLOW_ORIGIN)), ("", ""));
    // A page that may ask leads nobody here by another name.
    let (_served, addr) = start(allowed(&["*"]), babble(vec![300])).await;
    let rebound = [JSON, ("origin", "https://evil.example"), ("host", "evil.example")];
    assert_eq!(send(addr, "POST", TEXT, &rebound, BODY).await.status, 403);
}

#[tokio::test]
async fn refusals_can_be_read_too() {
    let setup = Setup { keys: vec!["secret".into()], ..allowed(&["https://chat.example"]) };
    let (_served, addr) = start(setup, babble(vec![300])).await;
    let answer = send(addr, "POST", TEXT, &[JSON, ("origin", "https://chat.example")], BODY).await;
    assert_eq!((answer.status.as_u16(), header(&answer, ALLOW_ORIGIN)), (401, "https://chat.example"));
}
