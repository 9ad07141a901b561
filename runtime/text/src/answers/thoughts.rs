//! Thoughts before an answer: `<think>` ... `</think>`.

use super::{AnswerPart, scan::overlap};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Tells thoughts from the answer after them.
#[derive(Debug)]
pub(super) struct Thoughts {
    state: State,
    /// What may be part of a mark, or space beside one.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but space so far.
    Before,
    /// Nothing but space since the mark.
    Opened,
    Within,
    /// Nothing but space since the thoughts ended.
    Closed,
    After,
}

impl Thoughts {
    pub(super) fn new(thinking: bool) -> Self {
        Self { state: if thinking { State::Opened } else { State::Before }, held: String::new() }
    }

    /// Takes a piece; gives what belongs to the answer.
    pub(super) fn push(&mut self, text: &str, parts: &mut Vec<AnswerPart>) -> String {
        self.held.push_str(text);
        loop {
            match self.state {
                State::Before => {
                    let begun = self.held.trim_start();
                    if let Some(rest) = begun.strip_prefix(OPEN) {
                        (self.held, self.state) = (rest.to_owned(), State::Opened);
                    } else if OPEN.starts_with(begun) {
                        return String::new();
                    } else {
                        self.state = State::After;
                    }
                }
                State::Opened | State::Within => {
                    if self.state == State::Opened {
                        self.held = self.held.trim_start().to_owned();
                    }
                    if let Some(place) = self.held.find(CLOSE) {
                        let rest = self.held.split_off(place + CLOSE.len());
                        self.held.truncate(place);
                        let thought = std::mem::replace(&mut self.held, rest);
                        think(thought.trim_end(), parts);
                        self.state = State::Closed;
                        continue;
                    }
                    let certain = self.held[..self.held.len() - overlap(&self.held, CLOSE)].trim_end().len();
                    if certain > 0 {
                        let rest = self.held.split_off(certain);
                        think(&std::mem::replace(&mut self.held, rest), parts);
                        self.state = State::Within;
                    }
                    return String::new();
                }
                State::Closed => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return String::new();
                    }
                    self.state = State::After;
                }
                State::After => return std::mem::take(&mut self.held),
            }
        }
    }

    /// What was held back of the answer. Thoughts that never end are thoughts.
    pub(super) fn finish(&mut self, parts: &mut Vec<AnswerPart>) -> String {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Before | State::Closed | State::After => held,
            State::Opened | State::Within => {
                think(held.trim_end(), parts);
                String::new()
            }
        }
    }
}

fn think(text: &str, parts: &mut Vec<AnswerPart>) {
    if !text.is_empty() {
        parts.push(AnswerPart::Reasoning(text.to_owned()));
    }
}
