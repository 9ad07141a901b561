//! From a stream to the compute thread.

use std::sync::Arc;

use tonic::Status;

use crate::{
    command::{Batch, Command},
    session::Session,
    state::Worker,
};

/// Hands a batch to the compute thread, in order; waits while it is behind. False when the epoch ended meanwhile.
pub(super) async fn enqueue(worker: &Worker, session: &Arc<Session>, batch: Batch) -> bool {
    tokio::select! {
        biased;
        () = session.ended.cancelled() => false,
        sent = worker.compute.send(Command::Run(session.clone(), Box::new(batch))) => sent.is_ok(),
    }
}

/// A message that breaks a rule.
pub(super) fn invalid(error: &lime_ring::FrameError) -> Status {
    Status::invalid_argument(error.to_string())
}
