//! llama.cpp, measured by its own `llama-bench`.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use lime_tests::memory_limit::MemoryLimit;

/// Tokens per second of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerSpeed {
    /// Prompt tokens per second.
    pub(crate) prefill: f64,
    /// Generated tokens per second.
    pub(crate) decode: f64,
}

/// Makes the system forget what it keeps of `file` in its page cache.
pub(crate) fn evict(file: &Path) -> Result<()> {
    let file = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).context("the page cache cannot be told to forget")
}

/// Runs `llama-bench` without a limit.
pub(crate) fn llama(bench: &Path, model: &Path, threads: usize, prompt: usize, tokens: usize) -> Result<PeerSpeed> {
    llama_within(None, bench, model, threads, prompt, tokens)
}

/// Runs `llama-bench` once with a prompt of `prompt` tokens and `tokens` generated ones.
pub(crate) fn llama_within(
    limit: Option<&MemoryLimit>,
    bench: &Path,
    model: &Path,
    threads: usize,
    prompt: usize,
    tokens: usize,
) -> Result<PeerSpeed> {
    let mut command = limit.map_or_else(|| Command::new(bench), |limit| limit.command(bench));
    let output = command
        .args(["-r", "1", "-o", "json", "-m"])
        .arg(model)
        .args(["-t", &threads.to_string(), "-p", &prompt.to_string(), "-n", &tokens.to_string()])
        .output()
        .with_context(|| format!("cannot run {}", bench.display()))?;
    ensure!(output.status.success(), "llama-bench failed: {}", String::from_utf8_lossy(&output.stderr));
    let results: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).context("llama-bench's JSON")?;
    let speed = |kind: &str| {
        let of_kind = results.iter().find(|result| result[kind].as_u64().is_some_and(|count| count > 0));
        of_kind.and_then(|result| result["avg_ts"].as_f64()).with_context(|| format!("llama-bench reports no {kind}"))
    };
    Ok(PeerSpeed { prefill: speed("n_prompt")?, decode: speed("n_gen")? })
}
