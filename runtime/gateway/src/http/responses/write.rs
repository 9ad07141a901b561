//! A response as events.

use axum::response::sse::Event;
use lime_text::AnswerPart;
use serde_json::{Value, json};

use super::{
    items::{Item, What, part, written},
    object::Object,
};
use crate::{
    answer::{Ended, Finished, Piece},
    http::{
        error::ApiError,
        sse::{self, Events},
    },
};

/// Writes the events of one response.
#[derive(Debug)]
pub(super) struct Writer {
    object: Object,
    /// Items in their order; the last may be under way.
    items: Vec<Item>,
    open: bool,
    events: u64,
}

impl Writer {
    pub(super) const fn new(object: Object) -> Self {
        Self { object, items: Vec::new(), open: false, events: 0 }
    }

    fn send(&mut self, kind: &str, mut event: Value, events: &mut Events) {
        event["type"] = kind.into();
        event["sequence_number"] = self.events.into();
        self.events += 1;
        events.push_back(Event::default().event(kind).data(event.to_string()));
    }

    /// Something of the last item, which is named.
    fn of_item(&mut self, kind: &str, mut event: Value, events: &mut Events) {
        if let Some(item) = self.items.last() {
            event["item_id"] = item.id.clone().into();
            event["output_index"] = (self.items.len() - 1).into();
        }
        self.send(kind, event, events);
    }

    fn open(&mut self, item: Item, events: &mut Events) {
        self.close(events);
        let (announced, index) = (item.announced(), self.items.len());
        let first = match &item.what {
            What::Message(_) => Some(part("")),
            What::Thoughts(_) => Some(json!({"type": "reasoning_text", "text": ""})),
            What::Call(..) => None,
        };
        self.items.push(item);
        self.open = true;
        self.send("response.output_item.added", json!({"output_index": index, "item": announced}), events);
        if let Some(part) = first {
            self.of_item("response.content_part.added", json!({"content_index": 0, "part": part}), events);
        }
    }

    /// Ends the item that is under way.
    fn close(&mut self, events: &mut Events) {
        let Some(item) = self.items.last().cloned().filter(|_| self.open) else { return };
        self.open = false;
        match &item.what {
            What::Message(text) => {
                let done = json!({"content_index": 0, "text": text, "logprobs": []});
                self.of_item("response.output_text.done", done, events);
                self.of_item("response.content_part.done", json!({"content_index": 0, "part": part(text)}), events);
            }
            What::Thoughts(text) => {
                self.of_item("response.reasoning_text.done", json!({"content_index": 0, "text": text}), events);
                let part = json!({"type": "reasoning_text", "text": text});
                self.of_item("response.content_part.done", json!({"content_index": 0, "part": part}), events);
            }
            What::Call(_, call) => {
                let done = json!({"name": call.name, "arguments": call.arguments});
                self.of_item("response.function_call_arguments.done", done, events);
            }
        }
        let done = json!({"output_index": self.items.len() - 1, "item": item.written()});
        self.send("response.output_item.done", done, events);
    }

    fn take(&mut self, part: AnswerPart, events: &mut Events) {
        let goes_on = self.open
            && matches!(
                (self.items.last().map(|item| &item.what), &part),
                (Some(What::Message(_)), AnswerPart::Content(_)) | (Some(What::Thoughts(_)), AnswerPart::Reasoning(_))
            );
        if !goes_on {
            let empty = match &part {
                AnswerPart::Content(_) => AnswerPart::Content(String::new()),
                AnswerPart::Reasoning(_) => AnswerPart::Reasoning(String::new()),
                AnswerPart::Call(_) => part.clone(),
            };
            self.open(Item::whole(&empty), events);
        }
        match part {
            AnswerPart::Content(delta) | AnswerPart::Reasoning(delta) => {
                let Some(Item { what, .. }) = self.items.last_mut() else { return };
                let (kind, mut event) = match what {
                    What::Message(text) => {
                        text.push_str(&delta);
                        ("response.output_text.delta", json!({"content_index": 0, "logprobs": []}))
                    }
                    What::Thoughts(text) => {
                        text.push_str(&delta);
                        ("response.reasoning_text.delta", json!({"content_index": 0}))
                    }
                    What::Call(..) => return,
                };
                event["delta"] = delta.into();
                self.of_item(kind, event, events);
            }
            AnswerPart::Call(call) => {
                self.of_item("response.function_call_arguments.delta", json!({"delta": call.arguments}), events);
                self.close(events);
            }
        }
    }
}

impl sse::Writer for Writer {
    fn begin(&mut self, events: &mut Events) {
        let object = self.object.begun();
        self.send("response.created", json!({"response": object}), events);
        self.send("response.in_progress", json!({"response": object}), events);
    }

    fn push(&mut self, piece: Piece, events: &mut Events) -> bool {
        for part in piece.parts {
            self.take(part, events);
        }
        match piece.end {
            None => true,
            Some(Ended::Finished(Finished { reason, drawn, cached, .. })) => {
                if self.items.is_empty() {
                    self.open(Item::whole(&AnswerPart::Content(String::new())), events);
                }
                self.close(events);
                let response = self.object.ended(&written(self.items.clone()), reason, drawn, cached);
                let kind = if response["status"] == "completed" { "response.completed" } else { "response.incomplete" };
                self.send(kind, json!({"response": response}), events);
                false
            }
            Some(Ended::Failed(fault)) => {
                let error = ApiError::of_stream(&fault);
                let items: Vec<Value> = self.items.iter().map(Item::written).collect();
                let response = self.object.failed(&items, error.code(), &error.message);
                self.send("response.failed", json!({"response": response}), events);
                false
            }
        }
    }
}
