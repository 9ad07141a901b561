//! Calls between marks: `<tool_call>` ... `</tool_call>`, as Hermes and Qwen write them. Within is JSON, or the tags of Qwen's coders.

use super::{
    AnswerPart, ToolCall, call, prose, say,
    scan::{self, overlap},
};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Tells calls from prose.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// Text that is not told yet; within a call from its mark on.
    held: String,
    /// Whether it begins with the mark.
    within: bool,
    /// Space before the mark: part of the prose, should the call be none.
    space: String,
    /// Where to look for the closing mark: those before it are part of a text within the call.
    looked: usize,
    called: bool,
}

impl Marked {
    pub(super) fn push(&mut self, text: &str, parts: &mut Vec<AnswerPart>) {
        self.held.push_str(text);
        while if self.within { self.close(parts) } else { self.open(parts) } {}
    }

    pub(super) fn finish(&mut self, parts: &mut Vec<AnswerPart>) {
        let held = std::mem::take(&mut self.held);
        if self.within {
            // Some models end without the mark.
            match calls(&held[OPEN.len()..]) {
                Some(calls) => parts.extend(calls.into_iter().map(AnswerPart::Call)),
                None => say(&(self.space.clone() + &held), parts),
            }
        } else if !(self.called && held.trim().is_empty()) {
            say(&held, parts);
        }
        self.within = false;
    }

    /// Looks for a mark in prose; space before it is none.
    fn open(&mut self, parts: &mut Vec<AnswerPart>) -> bool {
        let open = prose::before(OPEN, &mut self.held, &mut self.space, parts);
        (self.within, self.looked) = (open, OPEN.len());
        open
    }

    /// Looks for the end of a call.
    fn close(&mut self, parts: &mut Vec<AnswerPart>) -> bool {
        let Some(found) = self.held[self.looked..].find(CLOSE) else {
            // A mark may be cut in two here.
            let kept = overlap(&self.held, CLOSE).min(self.held.len() - self.looked);
            self.looked = self.held.len() - kept;
            return false;
        };
        let place = self.looked + found;
        let body = &self.held[OPEN.len()..place];
        self.looked = place + CLOSE.len();
        if let Some(calls) = calls(body) {
            parts.extend(calls.into_iter().map(AnswerPart::Call));
            self.called = true;
        } else if body.trim_start().starts_with(['{', '[']) && scan::value(body) == scan::Value::Cut {
            // The mark is part of a text in the arguments.
            return true;
        } else {
            say(&self.space, parts);
            say(&self.held[..self.looked], parts);
        }
        self.held.drain(..self.looked);
        self.within = false;
        true
    }
}

fn calls(body: &str) -> Option<Vec<ToolCall>> {
    call::of_json(body).filter(|_| is_one_value(body)).or_else(|| tagged(body).map(|call| vec![call]))
}

fn is_one_value(body: &str) -> bool {
    matches!(scan::value(body), scan::Value::Whole(length) if body[length..].trim().is_empty())
}

/// `<function=NAME> <parameter=KEY> VALUE </parameter> </function>`. A value that is JSON is taken as such, any other as a text.
fn tagged(body: &str) -> Option<ToolCall> {
    let body = body.trim().strip_prefix("<function=")?;
    let (name, mut rest) = body.strip_suffix("</function>").unwrap_or(body).split_once('>')?;
    let mut arguments = serde_json::Map::new();
    while let Some(parameter) = rest.trim_start().strip_prefix("<parameter=") {
        let (key, after) = parameter.split_once('>')?;
        let (value, after) = after.split_once("</parameter>")?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.trim().to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
        rest = after;
    }
    let name = name.trim();
    let whole = !name.is_empty() && rest.trim().is_empty();
    whole.then(|| ToolCall { name: name.to_owned(), arguments: serde_json::Value::Object(arguments).to_string() })
}
