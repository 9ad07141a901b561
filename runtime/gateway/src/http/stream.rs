//! Completions as server-sent events: chunks, each of them an object of the OpenAI API.

use std::sync::Arc;

use axum::response::{Response, sse::Event};
use lime_text::AnswerPart;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    error::ApiError,
    job::Job,
    shape::{Shape, usage},
    sse::{self, Events},
};
use crate::{
    answer::{Ended, Finished, Piece, Reason},
    schedule::Guessed,
    text::TextModel,
};

/// Answers at once; chunks follow as tokens come.
pub(super) fn respond(job: Job, shape: Shape, text: Arc<TextModel>, pieces: mpsc::Receiver<Piece>) -> Response {
    let choices = job.choices();
    let guessed = Guessed::default();
    sse::respond(
        Writer { open: choices, calls: vec![0; choices], job, shape, text, drawn: 0, guessed, cached: 0 },
        pieces,
    )
}

struct Writer {
    job: Job,
    shape: Shape,
    text: Arc<TextModel>,
    /// Choices that are not at their end.
    open: usize,
    /// Calls of each.
    calls: Vec<usize>,
    drawn: u64,
    guessed: Guessed,
    cached: u64,
}

impl sse::Writer for Writer {
    /// The role of each choice, or the prompt where it is to be echoed.
    fn begin(&mut self, events: &mut Events) {
        for choice in 0..self.job.choices() {
            let echo = &self.job.prompt_of(choice).echo;
            if self.shape.is_chat() {
                self.chunk(self.shape.role(choice), events);
            } else if !echo.is_empty() {
                self.gained(choice, self.shape.text(echo.clone()), events);
            }
        }
        if !self.job.draws() {
            for choice in 0..self.job.choices() {
                self.ended(choice, Reason::Length, events);
            }
            self.finish(events);
        }
    }

    fn push(&mut self, piece: Piece, events: &mut Events) -> bool {
        let Piece { choice, parts, reports, mut tokens, end } = piece;
        if let Some(Ended::Failed(fault)) = &end {
            events.push_back(Event::default().data(ApiError::of_stream(fault).body().to_string()));
            return false;
        }
        let mut logprobs = self.job.logprobs.map_or(Value::Null, |_| self.shape.logprobs(&self.text, &reports));
        let mut gained: Vec<Value> = parts.into_iter().flat_map(|part| self.part(choice, part)).collect();
        let tells_tokens = !reports.is_empty() || (!tokens.is_empty() && self.shape.return_token_ids);
        if gained.is_empty() && tells_tokens {
            gained.push(self.shape.text(String::new()));
        }
        for gained in gained {
            // The first tells of the tokens.
            let (logprobs, tokens) = (logprobs.take(), std::mem::take(&mut tokens));
            self.chunk(self.shape.delta(choice, gained, None, logprobs, tokens), events);
        }
        if let Some(Ended::Finished(Finished { reason, drawn, guessed, cached, .. })) = end {
            self.ended(choice, reason, events);
            self.drawn += drawn;
            self.guessed += guessed;
            self.cached += if self.job.is_first_of_prompt(choice) { cached } else { 0 };
            self.open -= 1;
        }
        if self.open == 0 {
            self.finish(events);
        }
        self.open > 0
    }
}

impl Writer {
    fn part(&mut self, choice: usize, part: AnswerPart) -> Vec<Value> {
        match part {
            AnswerPart::Content(text) => vec![self.shape.text(text)],
            AnswerPart::Reasoning(text) => vec![Shape::thought(&text)],
            AnswerPart::Call(call) => {
                let number = self.calls[choice];
                self.calls[choice] += 1;
                Shape::call(number, &call).to_vec()
            }
        }
    }

    fn gained(&self, choice: usize, gained: Value, events: &mut Events) {
        self.chunk(self.shape.delta(choice, gained, None, Value::Null, Vec::new()), events);
    }

    fn ended(&self, choice: usize, reason: Reason, events: &mut Events) {
        let last = self.shape.delta(choice, self.shape.nothing(), Some(reason), Value::Null, Vec::new());
        self.chunk(last, events);
    }

    fn finish(&mut self, events: &mut Events) {
        self.open = 0;
        if self.job.common.include_usage {
            let usage = usage(self.job.prompt_tokens(), self.cached, self.drawn, self.guessed);
            events.push_back(Event::default().data(self.shape.chunk(Vec::new(), Some(usage)).to_string()));
        }
        events.push_back(Event::default().data("[DONE]"));
    }

    fn chunk(&self, choice: Value, events: &mut Events) {
        let usage = self.job.common.include_usage.then_some(Value::Null);
        events.push_back(Event::default().data(self.shape.chunk(vec![choice], usage).to_string()));
    }
}
