//! An answer as server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::stream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    error::ApiError,
    job::Job,
    shape::{Shape, usage},
};
use crate::{
    answer::{Ended, Piece},
    schedule::Guessed,
    text::TextModel,
};

/// Shows proxies and clients that the connection lives while nothing else is to be said.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers at once; chunks follow as tokens come. When the client leaves, `pieces` is dropped.
pub(super) fn respond(job: Job, shape: Shape, text: Arc<TextModel>, pieces: mpsc::Receiver<Piece>) -> Response {
    let mut writer = Writer {
        open: job.choices(),
        job,
        shape,
        text,
        drawn: 0,
        guessed: Guessed::default(),
        events: VecDeque::new(),
    };
    writer.begin();
    let events = stream::unfold((writer, Some(pieces)), |(mut writer, mut pieces)| async move {
        loop {
            if let Some(event) = writer.events.pop_front() {
                return Some((Ok::<Event, Infallible>(Event::default().data(event)), (writer, pieces)));
            }
            let piece = match &mut pieces {
                Some(receiver) => receiver.recv().await?,
                None => return None,
            };
            if !writer.push(piece) {
                pieces = None;
            }
        }
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies that gather a response would defeat streaming.
    let no_gathering = axum::http::HeaderValue::from_static("no");
    response.headers_mut().insert("x-accel-buffering", no_gathering);
    response
}

struct Writer {
    job: Job,
    shape: Shape,
    text: Arc<TextModel>,
    /// Choices that are not at their end.
    open: usize,
    drawn: u64,
    guessed: Guessed,
    events: VecDeque<String>,
}

impl Writer {
    /// What a client sees before any token: the role of each choice, or the prompt where it is to be echoed.
    fn begin(&mut self) {
        for choice in 0..self.job.choices() {
            let echo = &self.job.prompt_of(choice).echo;
            if self.shape.is_chat() {
                self.chunk(self.shape.role(choice));
            } else if !echo.is_empty() {
                self.chunk(self.shape.delta(choice, Some(echo.clone()), None, Value::Null, Vec::new()));
            }
        }
        if !self.job.draws() {
            for choice in 0..self.job.choices() {
                self.chunk(self.shape.delta(choice, None, Some("length"), Value::Null, Vec::new()));
            }
            self.finish();
        }
    }

    /// Writes a piece down; false when nothing comes after it.
    fn push(&mut self, piece: Piece) -> bool {
        let Piece { choice, text, reports, tokens, end } = piece;
        if let Some(Ended::Failed(fault)) = &end {
            self.events.push_back(ApiError::of_stream(fault).body().to_string());
            return false;
        }
        let start = self.job.prompt_of(choice).echo.chars().count();
        let wanted = self.job.logprobs.map(|_| self.shape.logprobs(&self.text, &reports, start));
        if !text.is_empty() || !reports.is_empty() {
            let delta = self.shape.delta(choice, Some(text), None, wanted.unwrap_or(Value::Null), tokens);
            self.chunk(delta);
        } else if !tokens.is_empty() && self.shape.return_token_ids {
            self.chunk(self.shape.delta(choice, Some(String::new()), None, Value::Null, tokens));
        }
        if let Some(Ended::Finished(reason, drawn, guessed)) = end {
            self.chunk(self.shape.delta(choice, None, Some(reason), Value::Null, Vec::new()));
            self.drawn += drawn;
            self.guessed += guessed;
            self.open -= 1;
        }
        if self.open == 0 {
            self.finish();
        }
        self.open > 0
    }

    fn finish(&mut self) {
        self.open = 0;
        if self.job.common.include_usage {
            let usage = usage(self.job.prompt_tokens(), self.drawn, self.guessed);
            self.events.push_back(self.shape.chunk(Vec::new(), Some(usage)).to_string());
        }
        self.events.push_back("[DONE]".to_owned());
    }

    fn chunk(&mut self, choice: Value) {
        let usage = self.job.common.include_usage.then_some(Value::Null);
        self.events.push_back(self.shape.chunk(vec![choice], usage).to_string());
    }
}
