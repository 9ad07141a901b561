//! The real thing under a real kill: `lime up`, a streamed answer, SIGKILL to a worker in the middle of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Running, root, signal, wish};
use serde_json::{Value, json};

/// A ring of three worker processes, its address and its workers' process numbers.
fn serving(folder: &Path) -> (Running, String, Vec<u32>) {
    let file = wish(folder, &[3000, 3500, 4000]);
    let mut up = Running::start(&["up", "-v", "--port", "0", "-f", &file]);
    let line = up.wait_for("serving bard at");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(['/', ' ', '\n']).next()).unwrap().to_owned();
    let workers = workers(&up.heard);
    (up, address, workers)
}

/// The numbers in `worker NAME: process NUMBER at URI`.
fn workers(heard: &str) -> Vec<u32> {
    let lines = heard.lines().filter_map(|line| line.split_once(": process ").map(|(_, rest)| rest));
    lines.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

/// Streams a completion; `between` hears how many events have come after each of them. Gives the whole text.
fn stream(address: &str, between: &mut dyn FnMut(usize)) -> String {
    let body = json!({
        "model": "bard", "prompt": "ROMEO:\n", "max_tokens": 200, "temperature": 0.8, "seed": 11, "stream": true,
    });
    let body = body.to_string();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(
        socket,
        "POST /v1/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (mut text, mut count, mut whole) = (String::new(), 0, String::new());
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        whole.push_str(&line);
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return text;
        }
        let event: Value = serde_json::from_str(data).unwrap();
        text.push_str(event["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("an event without text: {data}")));
        count += 1;
        between(count);
    }
    panic!("the stream ended early: {whole}");
}

#[test]
fn an_answer_goes_on_when_any_worker_is_killed_in_the_middle_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut up, address, mut workers) = serving(folder.path());
    assert_eq!(workers.len(), 3, "{}", up.heard);
    let undisturbed = stream(&address, &mut |_| {});
    assert!(undisturbed.len() > 200, "{undisturbed:?}");
    assert_eq!(stream(&address, &mut |_| {}), undisturbed, "a seed fixes the answer");
    for worker in &mut workers {
        let process = *worker;
        let mut events_after_the_kill = 0;
        let text = stream(&address, &mut |count| match count {
            7 => signal(process, "KILL"),
            8.. => events_after_the_kill += 1,
            _ => {}
        });
        assert!(events_after_the_kill > 20, "the worker was killed in the middle");
        assert_eq!(text, undisturbed, "after the death of process {process}");
        let line = up.wait_for(": process ");
        *worker = self::workers(&line)[0];
        up.wait_for("the ring is back");
    }
    let mut metrics = TcpStream::connect(&address).unwrap();
    write!(metrics, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    metrics.read_to_string(&mut page).unwrap();
    assert!(page.lines().any(|line| line == "lime_recoveries_total 3"), "{page}");
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn the_official_client_is_content_with_a_real_ring() {
    let folder = tempfile::tempdir().unwrap();
    let (up, address, _) = serving(folder.path());
    let run = Command::new("bash")
        .arg(root().join("tests/openai/run.sh"))
        .env("LIME_BASE_URL", format!("http://{address}/v1"))
        .stdin(Stdio::null())
        .output();
    match run {
        Ok(output) => {
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            println!("{said}");
            assert!(output.status.success(), "{said}");
        }
        Err(fault) => println!("skipped: bash cannot be run: {fault}"),
    }
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}
