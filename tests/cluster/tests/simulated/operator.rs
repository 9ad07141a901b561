//! The operator's process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::fleet::SYSTEM;

/// A running operator; dropping it kills it.
pub(crate) struct Operator {
    process: Child,
    port: u16,
}

impl Operator {
    /// Starts one, which takes the lead at once.
    pub(crate) fn start() -> Self {
        let program =
            std::env::var("LIME_OPERATOR_BIN").expect("LIME_OPERATOR_BIN is not set: run make test-simulated");
        // Nobody else takes a port that was free a moment ago, as a rule.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let process = Command::new(program)
            .args(["--namespace", SYSTEM, "--no-leader-election", "--worker-overhead-mib", "8"])
            .args(["--weight-store", "empty-dir", "--listen", &format!("127.0.0.1:{port}")])
            .env("LIME_LOG", "error")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, port }
    }

    /// Ends it at once, as a node's death would.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Everything that it has written to the API server so far.
    pub(crate) fn writes(&self) -> u64 {
        let metrics = self.metrics();
        let counts = metrics.lines().filter(|line| line.starts_with("lime_operator_api_writes_total{"));
        counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Its own figures.
    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
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
