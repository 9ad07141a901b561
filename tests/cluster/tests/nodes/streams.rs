//! Clients that stream one answer after another while things happen to the ring.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a client waits for the next token: longer than a lost node takes to be replaced.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Answers that it had whole.
    pub(crate) answers: usize,
    /// The longest time without a token inside of an answer.
    pub(crate) longest_pause: Duration,
    /// The gateway takes no more requests: how it said so, before an answer began.
    pub(crate) turned_away: Option<String>,
}

/// A stream that did not begin.
#[derive(Debug)]
pub(crate) struct TurnedAway(String);

impl std::fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "turned away: {}", self.0)
    }
}

impl std::error::Error for TurnedAway {}

/// A long answer: greedy with a temperature of 0, else drawn with a seed.
pub(crate) fn long_question(temperature: f32) -> Value {
    json!({"model": "bard", "prompt": "JULIET:", "max_tokens": 400, "temperature": temperature, "seed": 11, "ignore_eos": true})
}

/// A client that asks `question` again and again, as a stream, and compares every answer with `expected`.
pub(crate) struct Client {
    enough: Arc<AtomicBool>,
    asking: JoinHandle<Result<Seen, String>>,
}

impl Client {
    /// Starts one, which asks the gateway at `at`.
    pub(crate) fn start(at: &str, question: &Value, expected: &Value) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let (until, at) = (enough.clone(), at.to_owned());
        let (question, expected) = (question.clone(), expected.as_str().unwrap().to_owned());
        let asking = std::thread::spawn(move || {
            let mut seen = Seen { answers: 0, longest_pause: Duration::ZERO, turned_away: None };
            while !until.load(Ordering::Relaxed) {
                let number = seen.answers + 1;
                let text = match stream(&at, &question, &mut seen.longest_pause) {
                    Ok(text) => text,
                    Err(error) if error.is::<TurnedAway>() => {
                        seen.turned_away = Some(error.to_string());
                        return Ok(seen);
                    }
                    Err(error) => return Err(format!("answer {number}: {error:#}")),
                };
                if text != expected {
                    return Err(format!("answer {number} is not that of one process: {text:?}, {expected:?}"));
                }
                seen.answers = number;
            }
            Ok(seen)
        });
        Self { enough, asking }
    }

    /// Whether it has failed already.
    pub(crate) fn is_over(&self) -> bool {
        self.asking.is_finished()
    }

    /// Lets it end its answer, which must be whole.
    pub(crate) fn stop(self) -> Seen {
        self.end().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets it end its answer; an error where one was not whole.
    pub(crate) fn end(self) -> Result<Seen, String> {
        self.enough.store(true, Ordering::Relaxed);
        self.asking.join().unwrap()
    }
}

/// Streams one completion; `pause` becomes the longest time without a token if there was a longer one.
pub(crate) fn stream(at: &str, question: &Value, pause: &mut Duration) -> anyhow::Result<String> {
    let mut question = question.clone();
    question["stream"] = true.into();
    let body = question.to_string();
    let mut socket = TcpStream::connect(at).map_err(|error| TurnedAway(error.to_string()))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!("POST /v1/completions HTTP/1.0\r\nHost: {at}\r\nContent-Type: application/json\r\n");
    write!(socket, "{head}Content-Length: {length}\r\n\r\n{body}")?;
    let (mut text, mut last, mut whole) = (String::new(), None, String::new());
    let mut lines = BufReader::new(socket).lines();
    let status = lines.next().transpose()?.unwrap_or_default();
    if !status.contains(" 200 ") {
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        return Err(TurnedAway(format!("{status} {}", rest.join(" "))).into());
    }
    for line in lines {
        let line = line?;
        whole.push_str(&line);
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return Ok(text);
        }
        if let Some(last) = last.replace(Instant::now()) {
            *pause = last.elapsed().max(*pause);
        }
        let event: Value = serde_json::from_str(data)?;
        let piece = event["choices"][0]["text"].as_str();
        text.push_str(piece.ok_or_else(|| anyhow::anyhow!("an event without text: {data}"))?);
    }
    anyhow::bail!("the stream ended early: {whole}")
}
