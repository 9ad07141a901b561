//! Streams that end with their epoch.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use lime_ring::{Checksummed as _, OutgoingFrames, proto::Frame};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use crate::{holder::HeldStream, session::Session};

/// Watches a session's end from within a stream.
struct End {
    session: Arc<Session>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl End {
    fn of(session: Arc<Session>) -> Self {
        let ended = Box::pin(session.ended.clone().cancelled_owned());
        Self { session, ended }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.as_mut().poll(cx)
    }
}

/// What a server sends to a client of an epoch: items, then the cause of the epoch's end as a status.
pub(crate) struct Ending<T> {
    items: mpsc::Receiver<Result<T, Status>>,
    end: End,
    over: bool,
    _held: Option<HeldStream>,
}

impl<T> Ending<T> {
    pub(crate) fn new(items: mpsc::Receiver<Result<T, Status>>, session: Arc<Session>) -> Self {
        Self { items, end: End::of(session), over: false, _held: None }
    }

    /// The same for a stream to the epoch's gateway, which is there for as long as it is.
    pub(crate) fn held(self) -> Self {
        Self { _held: Some(self.end.session.holder.stream()), ..self }
    }
}

impl<T> Stream for Ending<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        // What was finished before the end still goes out.
        match self.items.poll_recv(cx) {
            Poll::Ready(None) if !self.end.session.is_over() => {
                self.over = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(item)) => {
                self.over = item.is_err();
                return Poll::Ready(Some(item));
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        if self.end.poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.over = true;
        Poll::Ready(self.end.session.cause().map(|cause| Err(cause.status())))
    }
}

/// What goes to the successor: frames, then the cause of the epoch's end as a last frame.
pub(crate) struct Outbound {
    frames: OutgoingFrames,
    end: End,
    over: bool,
}

impl Outbound {
    pub(crate) fn new(frames: OutgoingFrames, session: Arc<Session>) -> Self {
        Self { frames, end: End::of(session), over: false }
    }
}

impl Stream for Outbound {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.end.poll(cx).is_ready() {
            self.over = true;
            let session = &self.end.session;
            return Poll::Ready(session.cause().map(|cause| cause.frame(session.epoch).sealed()));
        }
        Pin::new(&mut self.frames).poll_next(cx).map(|frame| frame.map(Frame::sealed))
    }
}
