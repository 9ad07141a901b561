//! The operator's process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{fleet::SYSTEM, proxy::Proxy};

/// A running operator; dropping it kills it.
pub(crate) struct Operator {
    process: Child,
    port: u16,
}

impl Operator {
    /// Starts one, which takes the lead at once.
    pub(crate) fn start() -> Self {
        Self::launch(None, None, &[])
    }

    /// The same, with nothing but a proxy between it and the API server.
    pub(crate) fn behind(proxy: &Proxy) -> Self {
        Self::launch(Some(&proxy.kubeconfig()), None, &[])
    }

    /// One of several, behind a proxy, which leads only while it holds the Lease.
    pub(crate) fn replica(identity: &str, proxy: &Proxy) -> Self {
        Self::launch(Some(&proxy.kubeconfig()), Some(identity), &[])
    }

    /// One that looks after some namespaces.
    pub(crate) fn of_namespaces(namespaces: &str) -> Self {
        Self::launch(None, None, &["--watch-namespaces", namespaces])
    }

    fn launch(kubeconfig: Option<&Path>, identity: Option<&str>, more: &[&str]) -> Self {
        let program =
            std::env::var("LIME_OPERATOR_BIN").expect("LIME_OPERATOR_BIN is not set: run make test-simulated");
        // Nobody else takes a port that was free a moment ago, as a rule.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        match identity {
            Some(identity) => command.args(["--identity", identity]),
            None => command.arg("--no-leader-election"),
        };
        command.envs(kubeconfig.map(|path| ("KUBECONFIG", path)));
        let process = command
            .args(["--namespace", SYSTEM, "--worker-overhead-mib", "8"])
            .args(more)
            .args(["--weight-store", "empty-dir", "--listen", &format!("127.0.0.1:{port}")])
            .env("LIME_LOG", "error,kube_client=off")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, port }
    }

    /// Ends it at once, as a node's death would.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Stops it where it is, as a virtual machine that is moved would be.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Whether it runs still.
    pub(crate) fn alive(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Whether it holds the Lease, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.figure("lime_operator_leader").is_some_and(|leads| leads > 0.0)
    }

    /// Everything that it has written to the API server so far.
    pub(crate) fn writes(&self) -> u64 {
        let metrics = self.metrics();
        let counts = metrics.lines().filter(|line| line.starts_with("lime_operator_api_writes_total{"));
        counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// One of its figures, by its name with labels.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// Its own figures; none while it starts.
    pub(crate) fn metrics(&self) -> String {
        self.get("/metrics")
    }

    /// What it says of its readiness.
    pub(crate) fn readiness(&self) -> String {
        self.get("/readyz")
    }

    fn get(&self, path: &str) -> String {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
            stream.read_to_string(&mut text).unwrap();
        }
        text
    }

    /// Memory in KiB: the most it has had, and what it has.
    pub(crate) fn memory_kib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (of("VmHWM:"), of("VmRSS:"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
    }
}
