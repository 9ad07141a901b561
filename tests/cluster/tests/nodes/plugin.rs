//! `kubectl lime` against pods that run: figures of each device, and a conversation through a port-forward of its own.

use std::process::Command;

use serde_json::Value;

use crate::deployed::Deployed;

fn said(arguments: &[&str]) -> String {
    let binary = std::env::var("LIME_KUBECTL_BIN").expect("LIME_KUBECTL_BIN is not set: run make test-nodes");
    let output = Command::new(binary).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "kubectl lime {}: {complaint}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `answer` is what one process says, greedily, to a prompt.
pub(crate) fn shows_figures_and_talks(bard: &Deployed<'_>, prompt: &str, tokens: usize, answer: &Value) {
    let scope = ["-n", bard.namespace];
    let top = said(&[&["top", bard.name], &scope[..], &["--once"]].concat());
    println!("{top}");
    for node in bard.shard_nodes() {
        assert!(top.lines().any(|line| line.contains(&node) && line.contains('%')), "{node} has no figures: {top}");
    }
    let tokens = tokens.to_string();
    let greedy = ["--prompt", prompt, "--max-tokens", &tokens, "--temperature", "0"];
    let chat = said(&[&["chat", bard.name], &scope[..], &greedy].concat());
    let (answer, said) = (answer.as_str().unwrap().trim(), chat.trim().strip_prefix(prompt).unwrap_or_default().trim());
    assert!(said.len() > 10 && answer.starts_with(said), "{chat:?}, and not the beginning of {answer:?}");
    println!("kubectl lime chat said what one process says");
}
