//! llama.cpp, measured by its own `llama-bench`, and prima.cpp by the times that its `llama-cli` prints.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

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

/// A ring of prima.cpp is given up after so long.
const PATIENCE: Duration = Duration::from_secs(240);

/// Processes that end with this.
struct Ranks(Vec<Child>);

impl Drop for Ranks {
    fn drop(&mut self) {
        for rank in &mut self.0 {
            let _ = rank.kill();
            let _ = rank.wait();
        }
    }
}

/// Generated tokens per second of a ring of prima.cpp processes on the loopback, each within one of `limits`, with its prefetching
/// on and `layers` shared out evenly: its own planner takes no bf16.
pub(crate) fn prima(cli: &Path, model: &Path, limits: &[MemoryLimit], layers: usize, tokens: usize) -> Result<f64> {
    let world = limits.len();
    let window = |rank: usize| (layers / world + usize::from(rank < layers % world)).to_string();
    let windows = (0..world).map(window).collect::<Vec<_>>().join(",");
    let rank = |rank: usize, limit: &MemoryLimit| {
        let mut command = limit.command(cli);
        command.arg("-m").arg(model).args(["-c", "256", "-t", "1", "--prefetch", "-lw", &windows]);
        command.args(["--world", &world.to_string(), "--rank", &rank.to_string()]);
        command.args(["--master", "127.0.0.1", "--next", "127.0.0.1"]);
        if rank == 0 {
            command.args(["-p", "a", "--ignore-eos", "-n", &tokens.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let start = |mut command: Command| command.spawn().with_context(|| format!("cannot start {}", cli.display()));
    let said = tempfile::NamedTempFile::new()?;
    let mut ranks = Ranks(Vec::new());
    for (index, limit) in limits.iter().enumerate().rev() {
        let mut command = rank(index, limit);
        command.stderr(if index == 0 { Stdio::from(said.reopen()?) } else { Stdio::null() });
        ranks.0.push(start(command)?);
    }
    let begin = Instant::now();
    let first = ranks.0.last_mut().context("a ring has ranks")?;
    while first.try_wait()?.is_none() {
        ensure!(begin.elapsed() < PATIENCE, "prima.cpp gave no {tokens} tokens in {} s", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
    let text = std::fs::read_to_string(said.path())?;
    let line = text.lines().find(|line| line.contains(" eval time =") && !line.contains("prompt eval"));
    let speed = line.and_then(|line| line.rsplit_once(", ")?.1.split_whitespace().next()?.parse().ok());
    speed.with_context(|| format!("prima.cpp did not say how fast it was: {}", text.lines().last().unwrap_or_default()))
}
