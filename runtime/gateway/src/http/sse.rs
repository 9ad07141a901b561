//! Answers as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::stream;
use tokio::sync::mpsc;

use crate::answer::Piece;

/// Shows proxies and clients that the connection lives while nothing else is to be said.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is to be sent, in order.
pub(super) type Events = VecDeque<Event>;

/// Writes an answer's pieces down as one API has them.
pub(super) trait Writer: Send + 'static {
    /// What a client sees before any token.
    fn begin(&mut self, events: &mut Events);

    /// Writes a piece; false when nothing comes after it.
    fn push(&mut self, piece: Piece, events: &mut Events) -> bool;
}

/// Answers at once; events follow as tokens come. When the client leaves, `pieces` is dropped.
pub(super) fn respond(mut writer: impl Writer, pieces: mpsc::Receiver<Piece>) -> Response {
    let mut events = Events::new();
    writer.begin(&mut events);
    let events = stream::unfold((writer, events, Some(pieces)), |(mut writer, mut events, mut pieces)| async move {
        loop {
            if let Some(event) = events.pop_front() {
                return Some((Ok::<Event, Infallible>(event), (writer, events, pieces)));
            }
            let piece = match &mut pieces {
                Some(receiver) => receiver.recv().await?,
                None => return None,
            };
            if !writer.push(piece, &mut events) {
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
