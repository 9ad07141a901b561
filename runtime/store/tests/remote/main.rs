//! Stores filled from servers, good and bad ones.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod digests;
mod faults;
mod gguf;
mod good;
#[allow(dead_code, reason = "the model's own tests use the rest of it")]
#[path = "../../../model/tests/formats/made.rs"]
mod made;
#[path = "../common/server.rs"]
mod server;

use std::{path::PathBuf, time::Duration};

use lime_store::{RemoteOptions, Source, Store};
use server::Server;

fn fixtures() -> Server {
    Server::start(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models"))
}

/// A store that asks `server` as the hub, and does not wait for long.
fn store_of(server: &Server) -> (tempfile::TempDir, Store) {
    let (folder, store) = common::store();
    (folder, store.with_remote(options(server)))
}

fn options(server: &Server) -> RemoteOptions {
    let mut options = RemoteOptions::at(server.url());
    (options.retries, options.pause, options.patience) = (3, Duration::from_millis(5), Duration::from_millis(600));
    options
}

fn hub(name: &str) -> Source {
    format!("hf://lime/{name}").parse().unwrap()
}
