//! The official Python client, where it can be had.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::{
    fake::{Setup, babble},
    start,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_is_content() {
    let setup = Setup { slots: 3, queue: 3, keys: vec!["secret".into()], ..Setup::default() };
    let (served, addr) = start(setup, babble((300..900).collect())).await;
    // Long enough that several streams are under way at once.
    served.ring.with(|state| state.pass_time = Duration::from_millis(10));
    run(addr, &[("LIME_API_KEY", "secret"), ("LIME_CAPACITY", "6")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_official_clients_at_once_are_all_served() {
    let (served, addr) = start(Setup { slots: 4, queue: 16, ..Setup::default() }, babble((300..900).collect())).await;
    // Some forty answers a second.
    served.ring.with(|state| state.pass_time = Duration::from_millis(10));
    run(addr, &[("LIME_SCRIPT", "crowd.py")]).await;
}

/// Runs a script of the client; it says itself where it cannot run.
async fn run(addr: SocketAddr, environment: &[(&str, &str)]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/openai/run.sh");
    let mut command = Command::new("bash");
    command.arg(script).env("LIME_BASE_URL", format!("http://{addr}/v1")).envs(environment.iter().copied());
    let output = match command.stdin(Stdio::null()).output().await {
        Ok(output) => output,
        Err(fault) => return println!("skipped: bash cannot be run: {fault}"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}");
}
