//! `kubectl`, as a process.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::crds_file;

/// A cluster, reached by `kubectl` and KUBECONFIG.
#[derive(Clone, Debug)]
pub struct Kubectl {
    _only_by_connect: (),
}

/// What a command answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether it succeeded.
    pub ok: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Kubectl {
    /// The cluster that `make test-cluster` started, with LIME's kinds installed and served.
    ///
    /// # Errors
    /// If no cluster was named for tests (a cluster that merely happens to be in KUBECONFIG is left alone), or it does not
    /// take the definitions.
    pub fn connect() -> anyhow::Result<Self> {
        if std::env::var_os("LIME_TEST_CLUSTER").is_none() {
            bail!("no cluster was started for tests: run make test-cluster");
        }
        // Once for all tests of a program: one of them upgrades to a newer chart's definitions, which another must not take back.
        static INSTALLED: Mutex<bool> = Mutex::new(false);
        let cluster = Self { _only_by_connect: () };
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if !*installed || !cluster.answer(&["get", "-f", &crds_file().display().to_string()], "")?.ok {
            cluster.install_kinds()?;
            *installed = true;
        }
        Ok(cluster)
    }

    fn install_kinds(&self) -> anyhow::Result<()> {
        let file = crds_file().display().to_string();
        self.run(&["apply", "--server-side", "--force-conflicts", "-f", &file])?;
        self.run(&["wait", "--for=condition=Established", "--timeout=30s", "-f", &file])?;
        // Established comes a moment before the API server publishes the schema by which it explains and diffs.
        self.eventually("the kinds are explained", Duration::from_secs(30), || {
            Ok(self.answer(&["explain", "limedeployment.spec"], "")?.ok.then_some(()))
        })
    }

    /// Runs `kubectl` with the given standard input, and says how it went.
    ///
    /// # Errors
    /// If `kubectl` cannot be run at all.
    pub fn answer(&self, arguments: &[&str], input: &str) -> anyhow::Result<Answer> {
        let mut child = Command::new("kubectl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kubectl cannot be started: is it on the PATH?")?;
        let mut stdin = child.stdin.take().context("kubectl has no standard input")?;
        // A kubectl that reads no input may be gone before it is written.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let done = child.wait_with_output()?;
        Ok(Answer {
            ok: done.status.success(),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// Runs `kubectl` and returns what it printed.
    ///
    /// # Errors
    /// If it fails; the error holds what it said.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_with(arguments, "")
    }

    /// The same with a standard input, for `-f -`.
    ///
    /// # Errors
    /// If it fails; the error holds what it said.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let answer = self.answer(arguments, input)?;
        if !answer.ok {
            bail!("kubectl {}: {}", arguments.join(" "), answer.stderr.trim());
        }
        Ok(answer.stdout)
    }

    /// An object, or a list of them, as JSON.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    pub fn get(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.run(&[&["get", "-o", "json"], arguments].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// A namespace that nothing else uses, made anew.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn namespace(&self, name: &str) -> anyhow::Result<Namespace> {
        self.answer(&["delete", "namespace", name, "--ignore-not-found", "--wait"], "")?;
        self.run(&["create", "namespace", name])?;
        Ok(Namespace { cluster: self.clone(), name: name.to_owned() })
    }

    /// Asks again until there is an answer.
    ///
    /// # Errors
    /// If asking fails, or there is none in time.
    pub fn eventually<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                bail!("not within {} s: {what}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A namespace for one test; dropping it deletes it, without waiting.
#[derive(Debug)]
pub struct Namespace {
    cluster: Kubectl,
    name: String,
}

impl Namespace {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.cluster.answer(&["delete", "namespace", &self.name, "--wait=false"], "");
    }
}
