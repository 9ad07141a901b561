//! The pass loop: brings the ring up, sends passes, hands tokens out, and brings the ring up again when it breaks.

use std::{sync::Arc, time::Duration};

use lime_planner::{Bytes, Plan};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Event, Peer,
    desk::Desk,
    intake::Command,
    metrics::Metrics,
    ring::{Progress, Ring, RingError, RingTransport},
    schedule::Restart,
    status::{Phase, RingStatus},
};

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Everything that the pass loop owns.
pub(crate) struct Coordinator<T: RingTransport> {
    pub(crate) transport: T,
    pub(crate) desk: Desk,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) workers: watch::Receiver<Vec<Peer>>,
    pub(crate) devices: Vec<String>,
    pub(crate) status: Arc<RingStatus>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) stop: CancellationToken,
    pub(crate) longest_pause: Duration,
    pub(crate) state: Epochs,
}

/// How many rings there were, and how the last attempts went.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    last: u64,
    served: bool,
    /// Attempts since the last result.
    attempts: u32,
    told: Option<String>,
}

/// The names of a plan's devices in ring order.
pub(crate) fn devices_of(plan: &Plan) -> Vec<String> {
    plan.devices.iter().map(|device| device.name.clone()).collect()
}

enum End {
    Stopped,
    Lost { error: RingError, why: Restart },
}

impl<T: RingTransport> Coordinator<T> {
    /// Runs until it is stopped. Every stream has ended then.
    pub(crate) async fn run(mut self) {
        while let Some(ring) = self.bring_up().await {
            match self.serve(ring).await {
                End::Stopped => break,
                End::Lost { error, why } => {
                    tracing::warn!(epoch = self.state.last, error = %error.reason, "the ring is over");
                    self.status.set_phase(Phase::Recovering, self.state.last);
                    self.tell_lost(&error);
                    self.desk.restart(why, &error.reason);
                }
            }
        }
        self.desk.close();
    }

    /// Sends passes and takes results until the ring breaks.
    async fn serve(&mut self, mut ring: T::Ring) -> End {
        let lost = |error| End::Lost { error, why: Restart::RingLost };
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.desk.handle(command);
            }
            while let Some(pass) = self.desk.next_pass() {
                if let Err(error) = ring.submit(pass).await {
                    return lost(error);
                }
            }
            let result = tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stopped,
                result = ring.next() => result,
                Some(command) = self.commands.recv() => {
                    self.desk.handle(command);
                    continue;
                }
            };
            let result = match result {
                Ok(result) => result,
                Err(error) => return lost(error),
            };
            if !result.failure.is_empty() {
                let error = RingError { device: None, reason: result.failure, epoch: None };
                return End::Lost { error, why: Restart::PassFailed };
            }
            if let Err(fault) = self.desk.complete(result) {
                return lost(RingError { device: None, reason: fault.to_string(), epoch: None });
            }
            self.state.attempts = 0;
        }
    }

    /// A ring at a new epoch, however long it takes; `None` when stopped.
    async fn bring_up(&mut self) -> Option<T::Ring> {
        loop {
            if !self.wait(self.pause()).await {
                return None;
            }
            self.state.attempts = self.state.attempts.saturating_add(1);
            let peers = self.wait_for_peers().await?;
            self.state.last += 1;
            match self.configure(&peers).await? {
                Ok(ring) => {
                    self.tell_ready();
                    return Some(ring);
                }
                Err(error) => {
                    self.state.last = self.state.last.max(error.epoch.unwrap_or(0));
                    tracing::debug!(error = %error.reason, "the ring is not ready");
                    self.tell_lost(&error);
                }
            }
        }
    }

    /// One attempt. It ends early when a worker comes up at a new address.
    async fn configure(&mut self, peers: &[Peer]) -> Option<Result<T::Ring, RingError>> {
        let Self { transport, desk, commands, workers, devices, status, events, stop, state, .. } = self;
        let progress = |progress: Progress| {
            status.set_progress(&progress);
            let (loaded, total) = (Bytes(progress.loaded), Bytes(progress.total));
            // Nobody need listen.
            let _ = events.send(Event::Loading { device: progress.device, loaded, total });
        };
        let mut attempt = std::pin::pin!(transport.configure(state.last, peers, progress));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                result = &mut attempt => return Some(result),
                Some(command) = commands.recv() => desk.handle(command),
                Ok(()) = workers.changed() => {
                    let now = workers.borrow_and_update();
                    if peers_of(devices, &now).as_deref() != Some(peers) {
                        let reason = "a worker has a new address".to_owned();
                        return Some(Err(RingError { device: None, reason, epoch: None }));
                    }
                }
            }
        }
    }

    /// The addresses of all devices, as soon as all are there.
    async fn wait_for_peers(&mut self) -> Option<Vec<Peer>> {
        loop {
            if let Some(peers) = peers_of(&self.devices, &self.workers.borrow_and_update()) {
                return Some(peers);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                Some(command) = self.commands.recv() => self.desk.handle(command),
                changed = self.workers.changed() => if changed.is_err() {
                    self.status.set_trouble("a device of the plan has no address, and none will come");
                    self.stop.cancelled().await;
                    return None;
                }
            }
        }
    }

    /// Waits, unless a worker comes up at a new address before; false when stopped.
    async fn wait(&mut self, pause: Duration) -> bool {
        let mut pause = std::pin::pin!(sleep(pause));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                Some(command) = self.commands.recv() => self.desk.handle(command),
                Ok(()) = self.workers.changed() => return true,
                () = &mut pause => return true,
            }
        }
    }

    /// None before the first attempt; then from 50 ms doubling.
    fn pause(&self) -> Duration {
        match self.state.attempts {
            0 => Duration::ZERO,
            attempts => (FIRST_PAUSE * 2_u32.saturating_pow((attempts - 1).min(10))).min(self.longest_pause),
        }
    }

    fn tell_ready(&mut self) {
        let epoch = self.state.last;
        self.status.set_phase(Phase::Ready, epoch);
        self.state.told = None;
        let event = if self.state.served { Event::Recovered { epoch } } else { Event::Ready { epoch } };
        self.metrics.ring_up(epoch, self.state.served);
        self.state.served = true;
        tracing::info!(epoch, "the ring serves");
        let _ = self.events.send(event);
    }

    /// Says what is wrong, once for each cause.
    fn tell_lost(&mut self, error: &RingError) {
        self.status.set_trouble(&error.reason);
        if self.state.told.as_deref() == Some(&error.reason) {
            return;
        }
        self.state.told = Some(error.reason.clone());
        let device = error.device.clone().unwrap_or_else(|| "ring".to_owned());
        let _ = self.events.send(Event::WorkerLost { device, reason: error.reason.clone() });
    }
}

/// One peer for each device of the plan, in its order; `None` while one is missing.
fn peers_of(devices: &[String], known: &[Peer]) -> Option<Vec<Peer>> {
    devices.iter().map(|device| known.iter().find(|peer| peer.device == *device).cloned()).collect()
}
