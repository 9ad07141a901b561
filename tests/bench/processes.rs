//! Worker processes, as `lime up` starts them.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// A worker process; it ends when this is dropped, because its standard input does.
pub(crate) struct WorkerProcess {
    child: Child,
    /// Where it listens.
    pub(crate) uri: String,
}

impl WorkerProcess {
    /// Starts `lime worker` and waits until it can be reached.
    pub(crate) fn start(lime: &Path, name: &str, model: &Path, threads: usize) -> Result<Self> {
        let mut child = Command::new(lime)
            .args(["worker", "--name", name, "--listen", "127.0.0.1:0", "--exit-with-parent", "--model"])
            .arg(model)
            .args(["--threads", &threads.to_string()])
            .env("LIME_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {} (make build, or set LIME_BIN)", lime.display()))?;
        let stdout = child.stdout.take().context("the worker's output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let said: serde_json::Value = serde_json::from_str(&line).context("the worker's first line")?;
        let uri = format!("http://{}", said["listening"].as_str().context("the worker's address")?);
        Ok(Self { child, uri })
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It was asked to end; a benchmark has nothing to say about how it did.
        let _ = self.child.wait();
    }
}
