//! Clients of other makers, where they can be had.

use std::{path::Path, process::Stdio, sync::Arc};

use lime_text::Tokenizer;
use tokio::process::Command;

use crate::{
    fake::{NextToken, Setup, bard},
    start,
};

const CALL: &str = r#"{"name": "f", "arguments": {"x": 1}}"#;

/// Calls `f`, and goes on with what the prompt has of the call already.
fn calling() -> NextToken {
    let tokenizer = Tokenizer::open(bard()).unwrap();
    let end = tokenizer.eos()[0];
    Arc::new(move |held, sampling| {
        let prompt = tokenizer.decode(&held[..held.len() - sampling.draw as usize], true);
        let begun = [r#"{"name": "f", "arguments":"#, r#"{"name":"#].into_iter().find(|begun| prompt.ends_with(begun));
        let answer = begun.map_or(CALL, |begun| &CALL[begun.len()..]);
        let script = tokenizer.encode(answer, false).unwrap();
        script.get(sampling.draw as usize).copied().unwrap_or(end)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_other_makers_are_content() {
    let (_served, addr) =
        start(Setup { context: 512, keys: vec!["secret".into()], ..Setup::default() }, calling()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/run.sh");
    let mut command = Command::new("bash");
    command.arg(script).env("LIME_BASE_URL", format!("http://{addr}/v1")).env("LIME_MODEL", "bard");
    let output = match command.env("LIME_API_KEY", "secret").stdin(Stdio::null()).output().await {
        Ok(output) => output,
        Err(fault) => return println!("skipped: bash cannot be run: {fault}"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}");
}
