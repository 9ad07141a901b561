//! From a configuration to a ready device: load, join, report.

use std::sync::Arc;

use lime_ring::{RingFault, proto::ConfigureProgress};
use tokio::sync::oneshot;

use crate::{
    join::join,
    keeper::join_keeper,
    session::Session,
    state::Worker,
    work::{Command, ProgressSender},
};

/// Takes the session's plan up and streams how far it is; the last message is ready, or the fault that ended the epoch.
pub(crate) async fn take_up(worker: Arc<Worker>, session: Arc<Session>, progress: ProgressSender) {
    let outcome = tokio::select! {
        biased;
        () = session.ended.cancelled() => None,
        outcome = load_and_join(&worker, &session, &progress) => Some(outcome),
    };
    if let Some(Err(fault)) = outcome {
        tracing::warn!(epoch = session.epoch, reason = fault.reason, "not ready");
        session.end(fault);
    }
    let last = match session.cause() {
        Some(cause) => Err(cause.status()),
        None => {
            session.set_ready();
            tracing::info!(device = session.name(), epoch = session.epoch, "ready");
            Ok(phase("ready", &worker))
        }
    };
    // Who configured may have gone; the status tells the next one.
    let _ = progress.send(last).await;
}

async fn load_and_join(worker: &Worker, session: &Arc<Session>, progress: &ProgressSender) -> Result<(), RingFault> {
    let (reply, loaded) = oneshot::channel();
    let take = Command::Take { session: session.clone(), progress: progress.clone(), reply };
    let stopped = |_| RingFault::lost(session.name(), "its compute thread has ended");
    worker.compute.send(take).await.map_err(|_| stopped(()))?;
    let loaded = loaded.await.map_err(|_| stopped(()))?;
    loaded.map_err(|error| RingFault::failed(session.name(), &error.to_string()))?;
    if let Some(frames) = session.take_outgoing() {
        let _ = progress.send(Ok(phase("joining", worker))).await;
        join(session, &worker.transport, frames).await?;
    }
    if let Some(asking) = session.take_asking() {
        join_keeper(session, &worker.transport, asking).await?;
    }
    Ok(())
}

fn phase(phase: &str, worker: &Worker) -> ConfigureProgress {
    let pinned = worker.counters.footprint().pinned.0;
    ConfigureProgress { phase: phase.to_owned(), loaded_bytes: pinned, total_bytes: pinned }
}
