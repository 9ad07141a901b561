//! A message as events.

use std::mem::{Discriminant, discriminant};

use axum::response::sse::Event;
use lime_text::AnswerPart;
use serde_json::{Value, json};

use super::{
    blocks::{begun_block, stop_reason},
    errors,
};
use crate::{
    answer::{Ended, Finished, Piece},
    http::{
        error::ApiError,
        sse::{self, Events},
    },
};

/// Writes the events of one message.
#[derive(Debug)]
pub(super) struct Writer {
    message: Value,
    /// Blocks begun so far.
    blocks: usize,
    /// What the block is that is under way.
    open: Option<Discriminant<AnswerPart>>,
}

impl Writer {
    pub(super) const fn new(message: Value) -> Self {
        Self { message, blocks: 0, open: None }
    }

    fn close(&mut self, events: &mut Events) {
        if self.open.take().is_some() {
            send("content_block_stop", json!({"index": self.blocks - 1}), events);
        }
    }

    fn take(&mut self, part: &AnswerPart, events: &mut Events) {
        let kind = discriminant(part);
        if self.open != Some(kind) || matches!(part, AnswerPart::Call(_)) {
            self.close(events);
            send("content_block_start", json!({"index": self.blocks, "content_block": begun_block(part)}), events);
            self.blocks += 1;
            self.open = Some(kind);
        }
        let delta = match part {
            AnswerPart::Content(text) => json!({"type": "text_delta", "text": text}),
            AnswerPart::Reasoning(text) => json!({"type": "thinking_delta", "thinking": text}),
            AnswerPart::Call(call) => json!({"type": "input_json_delta", "partial_json": call.arguments}),
        };
        send("content_block_delta", json!({"index": self.blocks - 1, "delta": delta}), events);
    }
}

impl sse::Writer for Writer {
    fn begin(&mut self, events: &mut Events) {
        send("message_start", json!({"message": self.message}), events);
        send("ping", json!({}), events);
    }

    fn push(&mut self, piece: Piece, events: &mut Events) -> bool {
        for part in &piece.parts {
            self.take(part, events);
        }
        match piece.end {
            None => true,
            Some(Ended::Finished(Finished { reason, stop, drawn, cached, .. })) => {
                self.close(events);
                let delta = json!({"stop_reason": stop_reason(reason, stop.as_deref()), "stop_sequence": stop});
                let prompt = self.message["usage"]["input_tokens"].as_u64().unwrap_or_default();
                let (computed, output) = (prompt.saturating_sub(cached), drawn);
                let usage =
                    json!({"input_tokens": computed, "cache_read_input_tokens": cached, "output_tokens": output});
                send("message_delta", json!({"delta": delta, "usage": usage}), events);
                send("message_stop", json!({}), events);
                false
            }
            Some(Ended::Failed(fault)) => {
                send("error", errors::body(&ApiError::of_stream(&fault)), events);
                false
            }
        }
    }
}

fn send(kind: &str, mut event: Value, events: &mut Events) {
    event["type"] = kind.into();
    events.push_back(Event::default().event(kind).data(event.to_string()));
}
