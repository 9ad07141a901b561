//! The gateway over HTTP, with a ring without a model behind it.

// Helpers beside the test functions may unwrap as these do.
#![allow(clippy::unwrap_used)]

mod answers;
mod causes;
#[allow(dead_code)]
mod client;
mod clients;
mod connections;
mod cors;
mod crowds;
mod errors;
mod faces;
#[allow(dead_code)]
mod fake;
mod forms;
mod hand_over;
mod hosts;
mod lengths;
mod lenient;
mod official_client;
mod page;
mod prefixes;
mod refusals;
mod replans;
mod scores;
mod speculation;
mod streams;
mod survival;
mod tls;
mod tools;

use std::{net::SocketAddr, time::Duration};

use fake::{Controls, Served, Setup, babble, recite};
use lime_text::Tokenizer;
use tokio::time::sleep;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A gateway whose ring is up, answering with nonsense.
async fn babbling() -> (Served, SocketAddr) {
    start(Setup::default(), babble((300..900).collect())).await
}

/// A gateway that answers `text` to everything.
async fn reciting(text: &str) -> (Served, SocketAddr) {
    let tokenizer = Tokenizer::open(fake::bard()).unwrap();
    let script = tokenizer.encode(text, false).unwrap();
    start(Setup::default(), recite(script, tokenizer.eos()[0])).await
}

/// The bundled model's folder with a chat template.
fn templated(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer.json"] {
        std::fs::copy(fake::bard().join(file), folder.path().join(file)).unwrap();
    }
    let config = serde_json::json!({"chat_template": template, "eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

/// A gateway that answers `text` to everything, and renders conversations by `template`.
async fn reciting_by(template: &str, text: &str) -> (tempfile::TempDir, Served, SocketAddr) {
    let folder = templated(template);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let next = recite(tokenizer.encode(text, false).unwrap(), tokenizer.eos()[0]);
    let (served, addr) = start(Setup { context: 512, model: folder.path().into(), ..Setup::default() }, next).await;
    (folder, served, addr)
}

async fn start(setup: Setup, next: fake::NextToken) -> (Served, SocketAddr) {
    let served = fake::serve(setup, Controls::new(next)).await;
    let addr = served.handle.addr();
    ready(addr).await;
    (served, addr)
}

async fn ready(addr: SocketAddr) {
    eventually("ready", || async { client::get(addr, "/ready").await.status == 200 }).await;
}

/// Asks until it is so.
async fn eventually<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never {what}");
}

/// A figure from `/metrics`.
async fn figure(addr: SocketAddr, name: &str) -> f64 {
    let text = client::get(addr, "/metrics").await.text;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
