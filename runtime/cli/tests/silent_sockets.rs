//! A gateway that may open few files, and more clients than that which connect and say nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{lime, model};

/// Killed when dropped.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn three_hundred_and_twenty_of_them_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    let json = lime(&["plan", "-f", "manifests/bard.yaml", "-o", "json"]).stdout;
    let plan: lime_plan::Plan = serde_json::from_slice(&json).unwrap();
    fs::write(&file, json).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_lime")]);
    command.args(["gateway", "--listen", "127.0.0.1:0", "--plan"]).arg(&file).arg("--model").arg(model());
    // Nobody is there: whether the process lives does not depend on it.
    command.args(plan.devices.iter().map(|device| format!("--worker={}=http://127.0.0.1:9", device.name)));
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut gateway = match spawned {
        Ok(child) => Gateway(child),
        Err(fault) => return println!("skipped: bash cannot be run: {fault}"),
    };
    let mut line = String::new();
    BufReader::new(gateway.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listening: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = listening["listening"].as_str().unwrap().to_owned();

    let mut silent = Vec::new();
    let mut longest = Duration::ZERO;
    for number in 0..320 {
        silent.push(TcpStream::connect(&address).unwrap());
        if number % 8 == 7 {
            let asked = Instant::now();
            let mut socket = TcpStream::connect(&address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            write!(socket, "GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "after {number}: {answer}");
            longest = longest.max(asked.elapsed());
        }
    }
    println!("the slowest of 40 answers took {longest:?}");
    // 100 ms on a machine of its own.
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let mut errors = gateway.0.stderr.take().unwrap();
    gateway.0.kill().unwrap();
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert!(said.contains("idle ones are closed for new ones"), "{said}");
    drop(silent);
}
