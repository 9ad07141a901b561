//! Calls without a mark: an answer that is a JSON object naming an offered tool, as Llama 3 writes them, and as models do that were
//! told to in words. Several stand one after another, with or without a semicolon.

use super::{
    AnswerPart, call, say,
    scan::{self, overlap},
};

/// The mark that Llama 3 may write before calls.
pub(super) const PYTHON_TAG: &str = "<|python_tag|>";
const FENCE: &str = "```";
/// A fence with the name of a language.
const LONGEST_FENCE: usize = 16;

/// Tells calls from prose.
#[derive(Debug)]
pub(super) struct Bare {
    tools: Vec<String>,
    tag: Option<&'static str>,
    state: State,
    held: String,
    /// Bytes of `held` that belong to a mark before a call: told as prose, should there be no call.
    mark: usize,
    called: bool,
    fenced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A call may begin here.
    Start,
    /// What was begun can be nothing else.
    Prose,
}

impl Bare {
    pub(super) fn new(tools: Vec<String>, tag: Option<&'static str>) -> Self {
        Self { tools, tag, state: State::Start, held: String::new(), mark: 0, called: false, fenced: false }
    }

    pub(super) fn push(&mut self, text: &str, parts: &mut Vec<AnswerPart>) {
        self.held.push_str(text);
        while match self.state {
            State::Start => self.start(parts),
            State::Prose => self.prose(parts),
        } {}
    }

    pub(super) fn finish(&mut self, parts: &mut Vec<AnswerPart>) {
        let held = std::mem::take(&mut self.held);
        // What closes a fence, or stands between calls, is none.
        let leftover = held.trim_matches(|c: char| c.is_whitespace() || c == ';');
        let leftover = if self.fenced { leftover.trim_matches('`') } else { leftover };
        if !(self.called && leftover.trim().is_empty()) {
            say(&held, parts);
        }
        self.mark = 0;
    }

    /// Reads a call, if one stands here.
    fn start(&mut self, parts: &mut Vec<AnswerPart>) -> bool {
        let rest = &self.held[self.mark..];
        let body = rest.trim_start_matches(|c: char| c.is_whitespace() || (self.called && c == ';'));
        let space = self.mark + rest.len() - body.len();
        if body.is_empty() {
            return false;
        }
        if self.mark == 0 {
            if let Some(tag) = self.tag {
                if body.starts_with(tag) {
                    self.mark = space + tag.len();
                    return true;
                }
                if tag.starts_with(body) {
                    return false;
                }
            }
            if self.called && self.fenced && (body.starts_with(FENCE) || FENCE.starts_with(body)) {
                // The end of the fence that the call stood in.
                if body.len() < FENCE.len() {
                    return false;
                }
                self.held.drain(..space + FENCE.len());
                self.fenced = false;
                return true;
            }
            if !self.called && (body.starts_with(FENCE) || FENCE.starts_with(body)) {
                let Some(line) = body.find('\n') else { return self.cut(body.len() <= LONGEST_FENCE) };
                if line <= LONGEST_FENCE
                    && matches!(body[FENCE.len()..line].trim(), "" | "json" | "tool_call" | "tool_code")
                {
                    (self.mark, self.fenced) = (space + line + 1, true);
                    return true;
                }
            }
        }
        if !body.starts_with(['{', '[']) {
            return self.cut(false);
        }
        let length = match scan::value(body) {
            scan::Value::Cut => return false,
            scan::Value::None => return self.cut(false),
            scan::Value::Whole(length) => length,
        };
        let calls = call::of_json(&body[..length]);
        let calls = calls.filter(|calls| calls.iter().all(|call| self.tools.contains(&call.name)));
        let Some(calls) = calls else { return self.cut(false) };
        parts.extend(calls.into_iter().map(AnswerPart::Call));
        self.held.drain(..space + length);
        (self.called, self.mark) = (true, 0);
        true
    }

    /// Waits for more, or goes on with prose.
    fn cut(&mut self, wait: bool) -> bool {
        if !wait {
            self.state = State::Prose;
        }
        !wait
    }

    /// Tells prose, up to a mark.
    fn prose(&mut self, parts: &mut Vec<AnswerPart>) -> bool {
        let from = self.mark;
        let found = self.tag.and_then(|tag| self.held[from..].find(tag)).map(|place| from + place);
        let kept = self.tag.map_or(0, |tag| overlap(&self.held, tag));
        let prose = found.unwrap_or(self.held.len() - kept);
        let certain = self.held[..prose].trim_end().len();
        say(&self.held[..certain], parts);
        self.held.drain(..certain);
        self.mark = 0;
        if found.is_some() {
            self.state = State::Start;
        }
        found.is_some()
    }
}
