//! One worker process: how it is started, reached, listened to and ended.

use std::{
    collections::VecDeque,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
    time::timeout,
};

use super::worker_settings::WorkerSettings;
use crate::{fleet::LocalDevice, logging, program::this_program, worker::Listening};

/// How long a worker may take until it listens.
const UNTIL_LISTENING: Duration = Duration::from_secs(30);
/// How long it may take to end when asked; it gives itself a little less.
const UNTIL_ENDED: Duration = Duration::from_secs(7);
/// Lines of a worker's log that are kept.
const LINES_KEPT: usize = 40;

/// A running worker process.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    child: Child,
    /// Held open for as long as the worker is to live: it ends when this does, even after a kill -9 of ours.
    input: Option<ChildStdin>,
    log: Log,
    reader: JoinHandle<()>,
    pub(super) uri: String,
}

/// The last lines of a worker's log.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn last(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }
}

impl WorkerProcess {
    /// Starts the worker of `device` and waits until it can be reached.
    pub(super) async fn start(device: &LocalDevice, shared: &WorkerSettings) -> anyhow::Result<Self> {
        let verbose = shared.verbose;
        let mut command = command(device, shared)?;
        let mut child = command.spawn().with_context(|| format!("worker {} cannot be started", device.name))?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("worker {} was started without its pipes", device.name);
        };
        let log = Log::default();
        let reader = tokio::spawn(read_log(errors, log.clone(), (verbose > 0).then(|| device.name.clone())));
        let mut process = Self { child, input: Some(input), log, reader, uri: String::new() };
        let mut lines = BufReader::new(output).lines();
        let reply = timeout(UNTIL_LISTENING, lines.next_line()).await;
        let listening: Option<Listening> =
            reply.ok().and_then(Result::ok).flatten().and_then(|line| serde_json::from_str(&line).ok());
        match listening {
            Some(listening) => {
                let scheme = if shared.tls.is_some() { "https" } else { "http" };
                process.uri = format!("{scheme}://{}", listening.listening);
                Ok(process)
            }
            None => {
                let status = process.end().await;
                let words = process.last_words().await;
                bail!("worker {} did not start ({}){words}", device.name, describe(status));
            }
        }
    }

    /// The process's number.
    pub(super) fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Waits for the process to end by itself.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }

    /// Asks the process to end and waits for it; one that does not listen is killed.
    pub(super) async fn end(&mut self) -> Option<ExitStatus> {
        self.input = None;
        if let Ok(status) = timeout(UNTIL_ENDED, self.child.wait()).await {
            return status.ok();
        }
        let _ = self.child.kill().await;
        self.child.wait().await.ok()
    }

    /// Ends a process that does not listen any more.
    pub(super) async fn kill(&mut self) {
        // It may have ended by itself at last.
        let _ = self.child.kill().await;
    }

    /// The end of its log, as a suffix for an error.
    pub(super) async fn last_words(&mut self) -> String {
        // The pipe closes with the process: what it wrote last has then been read.
        let _ = timeout(Duration::from_secs(1), &mut self.reader).await;
        let lines = self.log.last(8);
        let words = lines.join("\n  ");
        let words = words.strip_prefix("error: ").unwrap_or(&words);
        if lines.is_empty() { String::new() } else { format!(": {words}") }
    }
}

fn command(device: &LocalDevice, shared: &WorkerSettings) -> anyhow::Result<Command> {
    let WorkerSettings { model, tls, verbose, traces, prefix_disk, .. } = shared;
    let mut command = Command::new(this_program()?);
    command.args(["worker", "--exit-with-parent", "--listen", "127.0.0.1:0", "--name", &device.name]);
    command.arg("--model").arg(model.to_string());
    command.arg("--store").arg(lime_store::Store::default_root());
    command.args(["--threads", &device.threads.to_string()]);
    if let Some(disk) = prefix_disk {
        command.args(["--prefix-disk", &disk.0.to_string()]);
    }
    // Each arena of glibc's allocator keeps memory of its own, which no plan counts.
    command.env("MALLOC_ARENA_MAX", "2");
    if let Some(tls) = tls {
        command.arg("--tls").arg(tls);
    }
    if let Some(link) = &device.link {
        command.args(["--link-bandwidth", &format!("{}bit", link.bandwidth_bits)]);
        command.args(["--link-latency", &format!("{}ns", link.latency.as_nanos())]);
    }
    if let Some(disk) = &device.disk {
        command.args(["--disk-bandwidth", &format!("{}B", disk.bytes_per_second)]);
    }
    // A worker traces what the gateway asks it to: its share is all of that.
    if let Some(endpoint) = &traces.otlp_endpoint {
        command.args(["--otlp-endpoint", endpoint]);
    }
    if std::env::var_os(logging::VARIABLE).is_none() {
        command.env(logging::VARIABLE, if *verbose > 1 { "debug" } else { "info" });
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C in the terminal is ours to handle: workers end when the ring has been drained.
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

async fn read_log(errors: impl AsyncRead + Unpin, log: Log, prefix: Option<String>) {
    let mut lines = BufReader::new(errors).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some(name) = &prefix {
            eprintln!("[{name}] {line}");
        }
        log.push(line);
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(0), _)) => "it ended".to_owned(),
        Some((Some(code), _)) => format!("it ended with exit code {code}"),
        Some((None, Some(9))) => "it was killed by signal 9: by hand, or for want of memory".to_owned(),
        Some((None, Some(signal))) => format!("it was killed by signal {signal}"),
        _ => "how it ended is not known".to_owned(),
    }
}
