//! Web pages that would have their readers' browsers ask a gateway on loopback.

use serde_json::json;

use crate::{
    TEXT, babbling,
    client::{Answer, send},
    fake::{Setup, babble},
    start,
};

const BODY: &str = r#"{"model": "bard", "prompt": "x", "max_tokens": 1}"#;

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn no_page_gets_through() {
    let (_served, addr) = babbling().await;
    let json = ("content-type", "application/json");
    let refused = send(addr, "POST", TEXT, &[("host", "evil.example"), ("content-type", "text/plain")], BODY).await;
    assert_eq!((refused.status.as_u16(), code(&refused).as_str()), (403, "forbidden_host"));
    assert!(refused.text.contains("--allow-host evil.example"), "{}", refused.text);
    for path in ["/v1/models", "/metrics", "/ready", "/health", "/"] {
        assert_eq!(send(addr, "GET", path, &[("host", "evil.example")], "").await.status, 403, "{path}");
    }
    let page = send(addr, "POST", TEXT, &[json, ("origin", "https://evil.example")], BODY).await;
    assert_eq!((page.status.as_u16(), code(&page).as_str()), (403, "forbidden_host"));
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let simple = send(addr, "POST", TEXT, &[("content-type", kind)], BODY).await;
        assert_eq!((simple.status.as_u16(), code(&simple).as_str()), (415, "unsupported_media_type"));
        assert!(simple.text.contains("-H 'content-type: application/json'"), "{}", simple.text);
    }
    assert_eq!(send(addr, "POST", TEXT, &[], BODY).await.status, 415);
    assert_eq!(send(addr, "POST", TEXT, &[json, ("origin", "http://localhost:3000")], BODY).await.status, 200);
}

#[tokio::test]
async fn names_can_be_allowed() {
    let ask = |names: &[&str]| {
        let setup = Setup { hosts: names.iter().map(|name| (*name).to_owned()).collect(), ..Setup::default() };
        async move {
            let (_served, addr) = start(setup, babble(vec![300])).await;
            send(addr, "GET", "/v1/models", &[("host", "lime.example:8000")], "").await.status.as_u16()
        }
    };
    assert_eq!(ask(&[]).await, 403);
    assert_eq!(ask(&["lime.example"]).await, 200);
    assert_eq!(ask(&["*"]).await, 200);
    let setup = Setup { listen: "0.0.0.0:0".parse().unwrap(), ..Setup::default() };
    let (served, _) = start(setup, babble(vec![300])).await;
    let addr = ([127, 0, 0, 1], served.handle.addr().port()).into();
    let answer = send(addr, "POST", TEXT, &[("host", "lime.example")], BODY).await;
    assert_eq!(answer.status, 200, "elsewhere than on loopback nothing is asked: {}", json!(answer.text));
}
