//! The official Python client, where it can be had.

use std::{path::Path, process::Stdio, time::Duration};

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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/openai/run.sh");
    let run = Command::new("bash")
        .arg(script)
        .env("LIME_BASE_URL", format!("http://{addr}/v1"))
        .env("LIME_API_KEY", "secret")
        .env("LIME_CAPACITY", "6")
        .stdin(Stdio::null())
        .output()
        .await;
    let output = match run {
        Ok(output) => output,
        Err(fault) => return println!("skipped: bash cannot be run: {fault}"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}");
}
