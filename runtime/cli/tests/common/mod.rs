//! Running the real binary.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod client;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The bundled model's folder.
pub fn model() -> PathBuf {
    root().join("tests/fixtures/models/bard-2m").canonicalize().unwrap()
}

/// `lime` with `args`, run to its end.
pub fn lime(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// What a failing `lime` says, after checking that it did fail, in one breath and without a backtrace.
pub fn failure(args: &[&str]) -> String {
    let output = lime(args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(output.stdout.is_empty(), "{args:?} printed {:?}", String::from_utf8_lossy(&output.stdout));
    errors
}

/// The same, to be run.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lime"));
    command.args(args).current_dir(root()).stdin(Stdio::null()).env_remove("LIME_LOG");
    // What is measured here is of no use to whoever runs the tests.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// A wish for the bundled model on devices of so many KiB, written to `folder`.
pub fn wish(folder: &Path, kib: &[u32]) -> String {
    wish_with(folder, kib, "")
}

/// The same, with more to be said of each device.
pub fn wish_with(folder: &Path, kib: &[u32], more: &str) -> String {
    let path = wish_from(folder, &format!("file://{}", model().display()), "Raw", kib);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("threads: 1 }", &format!("threads: 1{more} }}"))).unwrap();
    path
}

/// The same for a model from elsewhere, with its weights in that encoding.
pub fn wish_from(folder: &Path, source: &str, encoding: &str, kib: &[u32]) -> String {
    let devices: Vec<String> = kib
        .iter()
        .enumerate()
        .map(|(index, kib)| format!("{{ name: d{index}, memory: {kib}Ki, threads: 1 }}"))
        .collect();
    let text = format!(
        "apiVersion: lime.dev/v1alpha1
kind: LimeDeployment
metadata: {{ name: bard }}
spec:
  model: {{ source: '{source}' }}
  offload: {{ encoding: {encoding} }}
  serving: {{ maxContextTokens: 256, maxConcurrentRequests: 2, prefillChunkTokens: 16 }}
  nodes: {{ minCount: {} }}
---
apiVersion: lime.dev/v1alpha1
kind: LocalFleet
spec: {{ segments: 2, devices: [{}] }}
",
        kib.len(),
        devices.join(", ")
    );
    let path = folder.join("wish.yaml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `lime` that runs on. Killed when dropped.
pub struct Running {
    pub child: Child,
    /// Lines of standard error, read as they come: a full pipe would hold it up.
    errors: Receiver<String>,
    pub heard: String,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    pub fn start_with(args: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = command(args);
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = BufReader::new(child.stderr.take().unwrap());
        let (lines, errors) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            while pipe.read_line(&mut line).is_ok_and(|read| read > 0) && lines.send(std::mem::take(&mut line)).is_ok()
            {
            }
        });
        Self { child, errors, heard: String::new() }
    }

    /// Reads lines of standard error until one holds `words`.
    pub fn wait_for(&mut self, words: &str) -> String {
        loop {
            let Ok(line) = self.errors.recv_timeout(PATIENCE) else {
                panic!("it ended, or was silent for {PATIENCE:?}, without saying {words:?}; it said:\n{}", self.heard)
            };
            self.heard.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Takes up what it has said meanwhile.
    pub fn listen(&mut self) -> &str {
        self.heard.extend(self.errors.try_iter());
        &self.heard
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end; gives the exit code and standard output.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        self.heard.extend(self.errors.iter());
        (self.child.wait().unwrap().code(), output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success());
}

/// Whether a process is still there.
pub fn alive(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until every one of `processes` is gone.
pub fn wait_until_gone(processes: &[u32]) {
    let start = Instant::now();
    while processes.iter().any(|process| alive(*process)) {
        assert!(start.elapsed() < Duration::from_secs(20), "still there: {processes:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
