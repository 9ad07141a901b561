//! Worker processes, as `lime up` starts them.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use lime_tests::memory_limit::MemoryLimit;

/// A worker process; it ends when this is dropped, because its standard input does.
pub(crate) struct WorkerProcess {
    child: Child,
    /// Where it listens.
    pub(crate) uri: String,
}

/// What a worker is started with besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkerOptions<'a> {
    /// Its weight store.
    pub(crate) store: Option<&'a Path>,
    /// Bytes per second that its disk gives.
    pub(crate) disk: Option<u64>,
    /// What its link gives, as `lime worker` takes it.
    pub(crate) link: Option<&'a str>,
    /// What it may keep of KV pages on its disk, as `lime worker` takes it.
    pub(crate) pages: Option<&'a str>,
    /// A hard limit of its memory.
    pub(crate) memory: Option<&'a MemoryLimit>,
}

impl WorkerProcess {
    /// Starts `lime worker` and waits until it can be reached.
    pub(crate) fn start(lime: &Path, name: &str, model: &Path, threads: usize) -> Result<Self> {
        Self::start_with(lime, name, model, threads, &WorkerOptions::default())
    }

    /// The same with options.
    pub(crate) fn start_with(
        lime: &Path,
        name: &str,
        model: &Path,
        threads: usize,
        options: &WorkerOptions<'_>,
    ) -> Result<Self> {
        let mut command = options.memory.map_or_else(|| Command::new(lime), |limit| limit.command(lime));
        let mut child = command
            .args(["worker", "--name", name, "--listen", "127.0.0.1:0", "--exit-with-parent", "--model"])
            .arg(model)
            .args(["--threads", &threads.to_string()])
            .args(options.store.map(|store| [std::ffi::OsStr::new("--store"), store.as_os_str()]).into_iter().flatten())
            .args(options.disk.map(|rate| ["--disk-bandwidth".to_owned(), format!("{rate}B")]).into_iter().flatten())
            .args(options.pages.map(|size| ["--prefix-disk", size]).into_iter().flatten())
            .args(options.link.map(|rate| ["--link-bandwidth", rate]).into_iter().flatten())
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
