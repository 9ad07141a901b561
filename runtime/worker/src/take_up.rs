//! From a configuration to a ready device: load, join, report.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use lime_plan::PageName;
use lime_ring::{RingFault, proto::ConfigureProgress};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    command::{Command, ProgressSender, Taken},
    compute::{ComputeError, Mended},
    join::join,
    keeper::join_keeper,
    session::Session,
    state::Worker,
};

/// Names of pages in one message.
const NAMES: usize = 4096;
/// How often a worker that compares its blocks says that it still does.
const STILL_AT_IT: Duration = Duration::from_secs(2);

/// Takes the session's plan up and streams how far it is; the last message is ready, or the fault that ended the epoch.
pub(crate) async fn take_up(worker: Arc<Worker>, session: Arc<Session>, progress: ProgressSender) {
    let held = session.holder.stream();
    let outcome = tokio::select! {
        biased;
        () = session.ended.cancelled() => None,
        outcome = load_and_join(&worker, &session, &progress) => Some(outcome),
    };
    let taken = match outcome {
        Some(Ok(taken)) => Some(taken),
        Some(Err(fault)) => {
            tracing::warn!(epoch = session.epoch, reason = fault.reason, "not ready");
            session.end(fault);
            None
        }
        None => None,
    };
    let Taken { mended, pages } = taken.unwrap_or_default();
    let last = match session.cause() {
        Some(cause) => Err(cause.status()),
        None => {
            session.set_ready();
            tracing::info!(device = session.name(), epoch = session.epoch, "ready");
            Ok(ConfigureProgress {
                compared: mended.compared,
                mended: mended.mended,
                disk_pages: u32::try_from(pages.disk_room).unwrap_or(u32::MAX),
                ..phase("ready", &worker)
            })
        }
    };
    // Who configured may have gone; the status tells the next one.
    let _ = progress.send(last).await;
    drop(held);
}

async fn load_and_join(worker: &Worker, session: &Arc<Session>, progress: &ProgressSender) -> Result<Taken, RingFault> {
    let (reply, loaded) = oneshot::channel();
    let take = Command::Configure { session: session.clone(), progress: progress.clone(), reply };
    let stopped = |_| RingFault::lost(session.name(), "its compute thread has ended");
    worker.compute.send(take).await.map_err(|_| stopped(()))?;
    let mut loaded = std::pin::pin!(loaded);
    let taken = loop {
        tokio::select! {
            biased;
            taken = &mut loaded => break taken.map_err(|_| stopped(()))?,
            () = sleep(STILL_AT_IT) => {
                // Comparing has no bar; that it gets on is all there is to say of it.
                if session.verifying.load(Ordering::Acquire) && worker.vitals.stuck().is_none() {
                    let _ = progress.try_send(Ok(phase("verifying", worker)));
                }
            }
        }
    };
    let failed = |error: ComputeError| {
        RingFault::failed(session.name(), &error.text).because(error.failure.kind()).caused_by(error)
    };
    let taken = taken.map_err(failed)?;
    if taken.mended.compared > 0 {
        let Mended { compared, mended } = taken.mended;
        tracing::info!(device = session.name(), compared, mended, "blocks were compared with their digests");
    }
    if let Some(frames) = session.take_outgoing() {
        let _ = progress.send(Ok(phase("joining", worker))).await;
        join(session, &worker.transport, frames).await?;
    }
    if let Some(asking) = session.take_asking() {
        join_keeper(session, &worker.transport, asking).await?;
    }
    for names in taken.pages.names.chunks(NAMES) {
        let names = names.iter().flat_map(PageName::as_bytes).copied().collect();
        let _ = progress.send(Ok(ConfigureProgress { names, ..phase("keeping", worker) })).await;
    }
    Ok(taken)
}

fn phase(phase: &str, worker: &Worker) -> ConfigureProgress {
    let pinned = worker.counters.footprint().pinned.0;
    ConfigureProgress {
        phase: phase.to_owned(),
        loaded_bytes: pinned,
        total_bytes: pinned,
        ..ConfigureProgress::default()
    }
}
