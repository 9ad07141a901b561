//! Keeps one worker process per device alive.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use lime_gateway::{Orders, Peer};
use lime_store::Source;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    child::{self, WorkerProcess},
    policy::{Decision, RestartPolicy},
};
use crate::fleet::LocalDevice;

/// What happens to workers.
#[derive(Debug)]
pub(super) enum WorkerEvent {
    /// A process is there and can be reached.
    Started { device: String, process: u32, uri: String },
    /// A process ended and will be started again.
    Restarting { device: String, reason: String, restarts: u32 },
    /// It will not be.
    Failed { reason: String },
}

/// Every worker process of the ring.
#[derive(Debug)]
pub(super) struct Supervisor {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

struct Keeper {
    device: LocalDevice,
    model: Source,
    tls: Option<PathBuf>,
    verbose: u8,
    policy: RestartPolicy,
    orders: Arc<watch::Sender<Orders>>,
    events: mpsc::UnboundedSender<WorkerEvent>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Starts a worker for each of `devices`; addresses go into `orders` as they come and go.
    pub(super) fn start(
        devices: Vec<LocalDevice>,
        model: &Source,
        tls: Option<&Path>,
        verbose: u8,
        policy: RestartPolicy,
        orders: watch::Sender<Orders>,
        events: &mpsc::UnboundedSender<WorkerEvent>,
    ) -> Self {
        let (stop, orders) = (CancellationToken::new(), Arc::new(orders));
        let mut tasks = JoinSet::new();
        for device in devices {
            let keeper = Keeper {
                device,
                model: model.clone(),
                tls: tls.map(Path::to_owned),
                verbose,
                policy,
                orders: Arc::clone(&orders),
                events: events.clone(),
                stop: stop.clone(),
            };
            tasks.spawn(keeper.keep());
        }
        Self { tasks, stop }
    }

    /// Ends every worker and returns when all are gone.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Keeper {
    async fn keep(self) {
        let mut restarts = 0;
        let mut first_failure: Option<String> = None;
        loop {
            let started = Instant::now();
            let reason = match self.live().await {
                Ok(None) => return,
                Ok(Some(reason)) => reason,
                // One that never came up at all will not the next time: the model or the machine is at fault.
                Err(error) if first_failure.is_none() => return self.fail(format!("{error:#}")),
                Err(error) => format!("{error:#}"),
            };
            let first = first_failure.get_or_insert_with(|| reason.clone()).clone();
            match self.policy.decide(restarts, started.elapsed()) {
                Decision::Restart { delay, restarts: used } => {
                    restarts = used;
                    let device = self.device.name.clone();
                    self.tell(WorkerEvent::Restarting { device, reason, restarts });
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.stop.cancelled() => return,
                    }
                }
                Decision::GiveUp => {
                    let name = &self.device.name;
                    let last = if first == reason { String::new() } else { format!("; the last time: {reason}") };
                    return self
                        .fail(format!("worker {name} failed more than {restarts} times; at first: {first}{last}"));
                }
            }
        }
    }

    /// One life of the worker: `None` when it was asked to end, else why it did.
    async fn live(&self) -> anyhow::Result<Option<String>> {
        let mut process = tokio::select! {
            process = WorkerProcess::start(&self.device, &self.model, self.tls.as_deref(), self.verbose) => process?,
            () = self.stop.cancelled() => return Ok(None),
        };
        let (device, uri) = (self.device.name.clone(), process.uri.clone());
        self.tell(WorkerEvent::Started { device, process: process.id(), uri: uri.clone() });
        self.publish(Some(uri));
        let status = tokio::select! {
            status = process.ended() => status,
            () = self.stop.cancelled() => {
                process.end().await;
                return Ok(None);
            }
        };
        self.publish(None);
        // One that was killed had no time for last words.
        let spoke = status.is_some_and(|status| status.code().is_some());
        let words = if spoke { process.last_words().await } else { String::new() };
        Ok(Some(format!("{}{words}", child::describe(status))))
    }

    fn publish(&self, uri: Option<String>) {
        let device = &self.device.name;
        self.orders.send_modify(|orders| {
            orders.workers.retain(|peer| peer.device != *device);
            orders.workers.extend(uri.map(|uri| Peer { device: device.clone(), uri }));
        });
    }

    fn fail(&self, reason: String) {
        self.tell(WorkerEvent::Failed { reason });
    }

    fn tell(&self, event: WorkerEvent) {
        // Nobody listens any more once everything is being stopped.
        let _ = self.events.send(event);
    }
}
