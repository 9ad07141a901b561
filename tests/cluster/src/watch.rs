//! Every state of an object, by `kubectl get --watch`: what is polled may miss what came and went.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::Value;

/// A watch that runs until it is dropped.
#[derive(Debug)]
pub struct Watch {
    kubectl: Child,
    seen: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Watch {
    /// Watches what `arguments` name, such as `["-n", "llm", "limedeployment", "bard"]`.
    ///
    /// # Errors
    /// If `kubectl` cannot be run.
    pub fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut kubectl = Command::new("kubectl")
            .args(["get", "--watch", "-o", "json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("kubectl cannot be started: is it on the PATH?")?;
        let stdout = kubectl.stdout.take().context("kubectl has no standard output")?;
        let seen = Arc::<Mutex<Vec<(Instant, Value)>>>::default();
        let into = seen.clone();
        std::thread::spawn(move || {
            for state in serde_json::Deserializer::from_reader(stdout).into_iter::<Value>().map_while(Result::ok) {
                // A list that is only pushed to is whole whatever panicked.
                into.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), state));
            }
        });
        Ok(Self { kubectl, seen })
    }

    /// Every state so far, each with when it was seen.
    #[must_use]
    pub fn seen(&self) -> Vec<(Instant, Value)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
