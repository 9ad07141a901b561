//! Keeps one worker process per device alive.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use lime_gateway::Orders;
use lime_plan::Plan;
use lime_ring::Peer;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    child::{self, WorkerProcess},
    policy::{Decision, Record},
    pulse,
    worker_settings::{WorkerEvent, WorkerSettings},
};
use crate::fleet::LocalDevice;

/// Every worker process of the ring.
#[derive(Debug)]
pub(super) struct Supervisor {
    tasks: JoinSet<()>,
    /// What ends each device's worker.
    running: BTreeMap<String, CancellationToken>,
    orders: Arc<watch::Sender<Orders>>,
    shared: WorkerSettings,
}

struct Keeper {
    device: LocalDevice,
    shared: WorkerSettings,
    orders: Arc<watch::Sender<Orders>>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Starts a worker for each of `devices`; addresses go into `orders` as they come and go.
    pub(super) fn start(
        devices: impl IntoIterator<Item = LocalDevice>,
        shared: WorkerSettings,
        orders: watch::Sender<Orders>,
    ) -> Self {
        let mut supervisor = Self { tasks: JoinSet::new(), running: BTreeMap::new(), orders: Arc::new(orders), shared };
        devices.into_iter().for_each(|device| supervisor.raise(device));
        supervisor
    }

    /// Goes over to `plan`: workers of devices that it does not have end, those of `devices` that have none are started, and all others
    /// stay as they are.
    pub(super) fn go_over(&mut self, plan: Plan, devices: impl IntoIterator<Item = LocalDevice>) {
        self.running.retain(|name, stop| {
            let stays = plan.device(name).is_some();
            if !stays {
                stop.cancel();
            }
            stays
        });
        self.orders.send_modify(|orders| {
            let mut workers = std::mem::take(&mut orders.workers);
            workers.retain(|peer| plan.device(&peer.device).is_some());
            let generation = orders.generation + 1;
            *orders = Orders { generation, ..Orders::new(plan, workers) };
        });
        for device in devices {
            if !self.running.contains_key(&device.name) {
                self.raise(device);
            }
        }
    }

    fn raise(&mut self, device: LocalDevice) {
        let stop = CancellationToken::new();
        self.running.insert(device.name.clone(), stop.clone());
        let (shared, orders) = (self.shared.clone(), Arc::clone(&self.orders));
        self.tasks.spawn(Keeper { device, shared, orders, stop }.keep());
    }

    /// Ends every worker and returns when all are gone.
    pub(super) async fn stop(mut self) {
        self.running.values().for_each(CancellationToken::cancel);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Keeper {
    async fn keep(self) {
        let origin = Instant::now();
        let mut record = Record::default();
        let mut first_failure: Option<String> = None;
        loop {
            let started = Instant::now();
            let reason = match self.live().await {
                Ok(None) => return,
                Ok(Some(reason)) => reason,
                // One that never came up at all will not the next time: the model or the machine is at fault.
                Err(error) if first_failure.is_none() => {
                    return self.tell(WorkerEvent::Failed { reason: format!("{error:#}") });
                }
                Err(error) => format!("{error:#}"),
            };
            let first = first_failure.get_or_insert_with(|| reason.clone()).clone();
            match self.shared.policy.decide(&mut record, origin.elapsed(), started.elapsed()) {
                Decision::Restart { delay, restarts } => {
                    let device = self.device.name.clone();
                    self.tell(WorkerEvent::Restarting { device, reason, restarts });
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.stop.cancelled() => return,
                    }
                }
                Decision::GiveUp => {
                    let device = self.device.name.clone();
                    let (most, minutes) = (self.shared.policy.max_restarts, self.shared.policy.window.as_secs() / 60);
                    let last = if first == reason { String::new() } else { format!("; the last time: {reason}") };
                    let times = if most == 0 {
                        "once, and maxRestarts is 0".to_owned()
                    } else {
                        format!("more than {most} times in {minutes} minutes")
                    };
                    let reason = format!("worker {device} failed {times}; at first: {first}{last}");
                    return self.tell(WorkerEvent::Exhausted { device, reason });
                }
            }
        }
    }

    /// One life of the worker: `None` when it was asked to end, else why it did.
    async fn live(&self) -> anyhow::Result<Option<String>> {
        let mut process = tokio::select! {
            process = self.begin() => process?,
            () = self.stop.cancelled() => return Ok(None),
        };
        let (device, uri) = (self.device.name.clone(), process.uri.clone());
        self.tell(WorkerEvent::Started { device: device.clone(), process: process.id(), uri: uri.clone() });
        self.publish(Some(uri.clone()));
        let member = Peer { device, uri };
        let status = tokio::select! {
            status = process.ended() => status,
            reason = pulse::lost(&self.shared.transport, &member) => {
                self.publish(None);
                process.kill().await;
                return Ok(Some(format!("{reason}; it was killed")));
            }
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

    async fn begin(&self) -> anyhow::Result<WorkerProcess> {
        WorkerProcess::start(&self.device, &self.shared).await
    }

    fn publish(&self, uri: Option<String>) {
        let device = &self.device.name;
        self.orders.send_modify(|orders| {
            orders.workers.retain(|peer| peer.device != *device);
            orders.workers.extend(uri.map(|uri| Peer { device: device.clone(), uri }));
        });
    }

    fn tell(&self, event: WorkerEvent) {
        // Nobody listens any more once everything is being stopped.
        let _ = self.shared.events.send(event);
    }
}
