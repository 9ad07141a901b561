//! Answers' bodies, which tell their connection that they move.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use super::connections::UnderWay;

/// A body that notes when it is asked for more: a client that does not read lets nobody ask.
pub(super) struct Counted {
    body: Body,
    request: UnderWay,
}

impl Counted {
    pub(super) fn new(body: Body, mut request: UnderWay) -> Self {
        request.answered();
        Self { body, request }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.request.moved();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
