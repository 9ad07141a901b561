//! What clients of a ring of pods are told: refusals with their numbers, places that come free, and who is not let in at all.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::deployed::{Deployed, PATIENCE};
use crate::http::ask;
use crate::streams::long_question;

/// A prompt beyond the context is a 400 with the numbers, an unknown model a 404 by its name.
pub(crate) fn are_refused(bard: &Deployed<'_>) {
    let at = bard.endpoint();
    let completion = |model: &str, prompt: &str| {
        let body = json!({"model": model, "prompt": prompt, "max_tokens": 4});
        ask(&at, "/v1/completions", Some(&body)).unwrap()
    };
    let (status, body) = completion("bard", &"word ".repeat(2000));
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("512") && body.contains("context_length_exceeded"), "{body}");
    let (status, body) = completion("nobody", "ROMEO:");
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("nobody"), "{body}");
    println!("a prompt beyond the context: 400, an unknown model: 404");
}

/// Whoever goes in the middle of an answer gives his place back.
pub(crate) fn give_places_back(bard: &Deployed<'_>) {
    let at = bard.endpoint();
    let mut question = long_question(0.0);
    question["stream"] = json!(true);
    let body = question.to_string();
    let mut socket = TcpStream::connect(&at).unwrap();
    let length = body.len();
    let head = format!("POST /v1/completions HTTP/1.0\r\nHost: {at}\r\nContent-Type: application/json\r\n");
    write!(socket, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
    let mut lines = BufReader::new(socket).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("data: ")), "no answer has begun");
    let before = figure(&at, "lime_requests_cancelled_total");
    drop(lines);
    let free = bard.cluster.eventually("the place is free", PATIENCE, || {
        let free = figure(&at, "lime_requests_cancelled_total") > before && figure(&at, "lime_active_sequences") == 0;
        Ok(free.then_some(()))
    });
    free.unwrap();
    println!("a client that went gave its place back");
}

/// A worker speaks to its ring alone: a client without a certificate gets no word.
pub(crate) fn are_not_let_in(bard: &Deployed<'_>) {
    let workers = bard.list(&["pods", "-l", "lime.dev/component=worker"]).unwrap();
    for worker in workers.iter().filter_map(|pod| pod["status"]["podIP"].as_str()) {
        let answer = ask(&format!("{worker}:7000"), "/", None);
        assert!(answer.is_err(), "a worker answered a plain client: {answer:?}");
    }
    println!("{} workers gave a plain client no word", workers.len());
}

/// A pod's limit is what its plan takes, and no shortage, however much more its node would lend.
pub(crate) fn are_not_short_of_memory(bard: &Deployed<'_>) {
    let (_, text) = ask(&bard.endpoint(), "/metrics", None).unwrap();
    let short: Vec<&str> = text.lines().filter(|line| line.starts_with("lime_worker_memory_shortage_bytes{")).collect();
    assert!(short.len() >= 2 && short.iter().all(|line| line.ends_with(" 0")), "{short:?}");
    println!("no worker says that its memory is short");
}

fn figure(at: &str, name: &str) -> u64 {
    let (_, text) = ask(at, "/metrics", None).unwrap();
    let of = |line: &str| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok();
    text.lines().filter(|line| !line.starts_with('#')).find_map(of).unwrap_or_else(|| panic!("no {name} in {text}"))
}
