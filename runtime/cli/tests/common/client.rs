//! What a user's program does: it streams an answer from `lime up`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

/// The address in `serving NAME at http://ADDRESS/v1`.
pub fn address(line: &str) -> String {
    line.split("http://").nth(1).and_then(|rest| rest.split(['/', ' ', '\n']).next()).unwrap().to_owned()
}

/// The numbers in `worker NAME: process NUMBER at URI`.
pub fn workers(heard: &str) -> Vec<u32> {
    let lines = heard.lines().filter_map(|line| line.split_once(": process ").map(|(_, rest)| rest));
    lines.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

/// Asks for a completion; the answer is to be read.
pub fn post(address: &str, question: &Value) -> TcpStream {
    let body = question.to_string();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(
        socket,
        "POST /v1/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    socket
}

/// Streams a completion of so many tokens, the same each time; `between` hears how many events have come after each of them. Gives the
/// whole text, or the error that ended it.
pub fn stream(address: &str, tokens: u32, between: &mut dyn FnMut(usize)) -> Result<String, String> {
    let body = json!({
        "model": "bard", "prompt": "ROMEO:\n", "max_tokens": tokens, "temperature": 0.8, "seed": 11, "stream": true,
    });
    let socket = post(address, &body);
    let (mut text, mut count, mut whole) = (String::new(), 0, String::new());
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        whole.push_str(&line);
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return Ok(text);
        }
        let event: Value = serde_json::from_str(data).unwrap();
        if event["error"].is_object() {
            return Err(event["error"]["message"].as_str().unwrap().to_owned());
        }
        text.push_str(event["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("an event without text: {data}")));
        count += 1;
        between(count);
    }
    Err(whole)
}
