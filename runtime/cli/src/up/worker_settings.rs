//! What is the same for every worker process, and what is heard of them.

use std::path::PathBuf;

use lime_plan::Bytes;
use lime_ring::Transport;
use lime_store::Source;
use tokio::sync::mpsc;

use super::policy::RestartPolicy;
use crate::traces::TraceArgs;

/// What happens to workers.
#[derive(Debug)]
pub(super) enum WorkerEvent {
    /// A process is there and can be reached.
    Started { device: String, process: u32, uri: String },
    /// A process ended and will be started again.
    Restarting { device: String, reason: String, restarts: u32 },
    /// It never came up: nothing is to be had from trying again.
    Failed { reason: String },
    /// It ended too often: its device is to be done without.
    Exhausted { device: String, reason: String },
}

/// What is the same for every worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerSettings {
    pub(super) model: Source,
    pub(super) tls: Option<PathBuf>,
    pub(super) transport: Transport,
    pub(super) verbose: u8,
    pub(super) traces: TraceArgs,
    /// What each may keep of prefixes on its disk.
    pub(super) prefix_disk: Option<Bytes>,
    pub(super) policy: RestartPolicy,
    pub(super) events: mpsc::UnboundedSender<WorkerEvent>,
}
