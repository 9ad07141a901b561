//! From a stream to the compute thread.

use std::sync::Arc;

use tonic::Status;

use crate::{
    session::Session,
    state::Worker,
    work::{Command, Work},
};

/// Hands work to the compute thread, in order; waits while it is behind. False when the epoch ended meanwhile.
pub(super) async fn hand_over(worker: &Worker, session: &Arc<Session>, work: Work) -> bool {
    tokio::select! {
        biased;
        () = session.ended.cancelled() => false,
        sent = worker.compute.send(Command::Work(session.clone(), Box::new(work))) => sent.is_ok(),
    }
}

/// A message that breaks a rule.
pub(super) fn invalid(error: &lime_ring::FrameError) -> Status {
    Status::invalid_argument(error.to_string())
}
