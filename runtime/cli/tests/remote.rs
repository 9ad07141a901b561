//! `lime up` with a model from a server: only what the devices need is fetched, and what is there serves without the server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../store/tests/common/server.rs"]
mod server;

use std::path::Path;

use common::{Running, wish, wish_from};
use server::Server;

fn answer(file: &str, endpoint: &str, store: &Path) -> (String, String) {
    let args = ["up", "--port", "0", "-f", file, "--prompt", "ROMEO:\n", "--max-tokens", "16", "--once"];
    let mut up = Running::start_with(&args, &[("HF_ENDPOINT", Path::new(endpoint)), ("LIME_STORE", store)]);
    up.wait_for("of weights in");
    let mut said = up.heard.clone();
    let (code, answer) = up.end();
    said.push_str(&format!("{code:?}"));
    assert_eq!(code, Some(0), "{said}");
    (answer, said)
}

#[test]
fn a_model_is_fetched_served_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (fetched, local) = (folder.path().join("fetched"), folder.path().join("local"));
    let server = Server::start(common::root().join("tests/fixtures/models"));
    let (expected, _) = answer(&wish(folder.path(), &[3000, 3500, 4000]), "http://127.0.0.1:1", &local);
    assert!(expected.starts_with("ROMEO:\nI will not bite thee"), "{expected}");
    let plain = format!("{}/plain/bard-2m", server.url());
    for encoding in ["Raw", "Compact"] {
        for source in ["hf://lime/bard-2m", &plain] {
            let file = wish_from(folder.path(), source, encoding, &[3000, 3500, 4000]);
            let (found, said) = answer(&file, server.url(), &fetched);
            assert_eq!(found, expected, "{source} {encoding}");
            assert_eq!(said.contains("kept compact"), encoding == "Compact", "{said}");
        }
    }
    // The server is away: what was fetched serves.
    let endpoint = server.url().to_owned();
    drop(server);
    let file = wish_from(folder.path(), "hf://lime/bard-2m", "Raw", &[3000, 3500, 4000]);
    assert_eq!(answer(&file, &endpoint, &fetched).0, expected);
    let (code, said) = {
        let file = wish_from(folder.path(), "hf://lime/nothing", "Raw", &[3000, 3500, 4000]);
        let up = Running::start_with(&["up", "-f", &file], &[("HF_ENDPOINT", Path::new("http://127.0.0.1:1"))]);
        up.end()
    };
    assert_eq!((code, said.as_str()), (Some(1), ""));
}
