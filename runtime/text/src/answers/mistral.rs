//! Calls as Mistral's models write them: `[TOOL_CALLS]` and a list, or `[TOOL_CALLS]name{...}` once for each call.

use super::{AnswerPart, ToolCall, call, prose, say, scan};

const OPEN: &str = "[TOOL_CALLS]";
/// What newer models write between a name and its arguments.
const ID: &str = "[CALL_ID]";
const ARGUMENTS: &str = "[ARGS]";
/// Longest name of a tool with that of its call.
const LONGEST_HEAD: usize = 256;

/// Tells calls from prose.
#[derive(Debug, Default)]
pub(super) struct Mistral {
    held: String,
    within: bool,
    /// Space before the mark: part of the prose, should the call be none.
    space: String,
    called: bool,
}

/// What stands after the mark.
enum Found {
    Calls(Vec<ToolCall>, usize),
    Cut,
    None,
}

impl Mistral {
    pub(super) fn push(&mut self, text: &str, parts: &mut Vec<AnswerPart>) {
        self.held.push_str(text);
        while if self.within { self.read(parts) } else { self.open(parts) } {}
    }

    pub(super) fn finish(&mut self, parts: &mut Vec<AnswerPart>) {
        let held = std::mem::take(&mut self.held);
        if self.within {
            say(&self.space, parts);
        }
        if self.within || !(self.called && held.trim().is_empty()) {
            say(&held, parts);
        }
        self.within = false;
    }

    fn open(&mut self, parts: &mut Vec<AnswerPart>) -> bool {
        let open = prose::before(OPEN, &mut self.held, &mut self.space, parts);
        self.within = open;
        open
    }

    fn read(&mut self, parts: &mut Vec<AnswerPart>) -> bool {
        let length = match after_the_mark(&self.held[OPEN.len()..]) {
            Found::Cut => return false,
            Found::Calls(calls, length) => {
                parts.extend(calls.into_iter().map(AnswerPart::Call));
                self.called = true;
                OPEN.len() + length
            }
            // The mark was none; what follows may have another.
            Found::None => {
                say(&self.space, parts);
                say(OPEN, parts);
                OPEN.len()
            }
        };
        self.held.drain(..length);
        self.within = false;
        true
    }
}

fn after_the_mark(text: &str) -> Found {
    let body = text.trim_start();
    let space = text.len() - body.len();
    if body.is_empty() {
        return Found::Cut;
    }
    if body.starts_with(['[', '{']) {
        return match scan::value(body) {
            scan::Value::Cut => Found::Cut,
            scan::Value::None => Found::None,
            scan::Value::Whole(length) => {
                call::of_json(&body[..length]).map_or(Found::None, |calls| Found::Calls(calls, space + length))
            }
        };
    }
    // What no head of a call has can be told before the head is whole.
    let end = body.find('{');
    let head = &body[..end.unwrap_or(body.len())];
    if head.len() > LONGEST_HEAD || head.contains(['\n', '"', '}']) {
        return Found::None;
    }
    let Some(at) = end else { return Found::Cut };
    let head = head.trim_end();
    let head = head.strip_suffix(ARGUMENTS).unwrap_or(head);
    let name = head.split_once(ID).map_or(head, |(name, _)| name).trim();
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "[]".contains(c)) {
        return Found::None;
    }
    match scan::value(&body[at..]) {
        scan::Value::Cut => Found::Cut,
        scan::Value::None => Found::None,
        scan::Value::Whole(length) => {
            let arguments = body[at..at + length].to_owned();
            Found::Calls(vec![ToolCall { name: name.to_owned(), arguments }], space + at + length)
        }
    }
}
