//! The page and what it looks at.

use serde_json::Value;

use crate::{
    babbling,
    client::{Open, get, open, send},
    eventually,
    fake::{Setup, babble},
    start,
};

const LIVE: &str = "/lime/v1/live";
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// The next event of the kind.
async fn next(live: &mut Open, kind: &str) -> Value {
    loop {
        let (found, data) = live.named_event().await.expect("the stream ended");
        if found == kind {
            return serde_json::from_str(&data).unwrap();
        }
    }
}

#[tokio::test]
async fn people_get_a_page_and_programs_what_this_is() {
    let (_served, addr) = babbling().await;
    let page = send(addr, "GET", "/", &[BROWSER], "").await;
    assert_eq!(
        (page.status.as_u16(), &page.headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(page.text.contains("page/app.js"));
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    for rule in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(page.headers["vary"], "accept");
    // What the page asks for is there, by the kind that it is loaded as.
    let names = page.text.split(['"', '\'']).filter(|name| name.starts_with("page/"));
    for name in names {
        let file = get(addr, &format!("/{name}")).await;
        assert_eq!(file.status, 200, "{name}");
        assert_eq!(file.headers["x-content-type-options"], "nosniff");
        let kind = match name.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(file.headers["content-type"], kind, "{name}");
    }
    for nothing in ["/page/", "/page/nothing.js", "/page/index.html", "/page/..%2fCargo.toml"] {
        assert_eq!(get(addr, nothing).await.status, 404, "{nothing}");
    }
    for accept in ["*/*", "application/json"] {
        let told = send(addr, "GET", "/", &[("accept", accept)], "").await;
        assert_eq!((told.json()["name"].as_str(), told.json()["model"].as_str()), (Some("LIME"), Some("bard")));
    }
    assert_eq!(send(addr, "HEAD", "/", &[BROWSER], "").await.status, 200);
    assert_eq!(send(addr, "POST", "/", &[("content-type", "application/json")], "{}").await.status, 405);
}

#[tokio::test]
async fn the_plan_is_told_as_it_runs() {
    let (served, addr) = babbling().await;
    let mut live = open(addr, "GET", LIVE, &[], "").await;
    assert_eq!((live.status.as_u16(), &live.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    let plan = next(&mut live, "plan").await;
    assert_eq!(plan["served_name"], "bard");
    assert_eq!(plan["model"]["chat_template"], false);
    assert_eq!(plan["devices"][0]["name"], "device-0");
    assert_eq!(plan["devices"][0]["ranges"].as_array().unwrap().len(), 1);
    assert!(plan["devices"][0]["memory"]["pinned_bytes"].as_u64() > Some(0));
    let state = next(&mut live, "state").await;
    assert_eq!((state["phase"].as_str(), state["drawn_tokens"].as_u64()), (Some("ready"), Some(0)));
    // Its worker is none: nobody answers at its address.
    assert_eq!(state["devices"][0]["answers"], false);
    assert_eq!(state["happened"][0]["kind"], "ready");

    let body = r#"{"model": "bard", "prompt": "x", "max_tokens": 5, "ignore_eos": true}"#;
    assert_eq!(send(addr, "POST", crate::TEXT, &[("content-type", "application/json")], body).await.status, 200);
    while next(&mut live, "state").await["drawn_tokens"] != 5 {}

    // The ring dies at its next result, and is away until it is let up again.
    served.ring.with(|state| state.dies_after = Some(0));
    let asking =
        tokio::spawn(
            async move { send(addr, "POST", crate::TEXT, &[("content-type", "application/json")], body).await },
        );
    let lost = loop {
        let state = next(&mut live, "state").await;
        if state["phase"] == "recovering" {
            break state["happened"].as_array().unwrap().last().unwrap().clone();
        }
    };
    assert_eq!((lost["kind"].as_str(), lost["device"].as_str()), (Some("lost"), Some("device-0")));
    served.ring.with(|state| state.up = true);
    loop {
        let state = next(&mut live, "state").await;
        if state["phase"] == "ready" {
            let last = state["happened"].as_array().unwrap().last().unwrap().clone();
            assert_eq!(
                (last["kind"].as_str(), last["number"].as_u64() > lost["number"].as_u64()),
                (Some("recovered"), true)
            );
            break;
        }
    }
    assert_eq!(asking.await.unwrap().status, 200);

    // Whoever looks hears that the server stops, and is not what it waits for.
    tokio::spawn(served.handle.stop());
    while next(&mut live, "state").await["phase"] != "stopping" {}
    assert_eq!(live.named_event().await, None);
}

#[tokio::test]
async fn looking_needs_a_key_and_has_an_end() {
    let setup = Setup { keys: vec!["secret".into()], ..Setup::default() };
    let (_served, addr) = start(setup, babble(vec![300])).await;
    assert_eq!(get(addr, LIVE).await.status, 401);
    assert_eq!(send(addr, "GET", "/", &[BROWSER], "").await.status, 200, "the page itself asks for the key");
    let key = ("authorization", "Bearer secret");
    let mut viewers = Vec::new();
    for _ in 0..32 {
        let viewer = open(addr, "GET", LIVE, &[key], "").await;
        assert_eq!(viewer.status, 200);
        viewers.push(viewer);
    }
    assert_eq!(send(addr, "GET", LIVE, &[key], "").await.status, 503);
    viewers.pop();
    eventually("a place again", || async { open(addr, "GET", LIVE, &[key], "").await.status == 200 }).await;
}
