//! The pass loop: brings the ring up, sends passes, hands tokens out, and brings the ring up again when it breaks or when
//! another plan is to be followed.

use std::{sync::Arc, time::Duration};

use lime_planner::Bytes;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Event, Peer,
    desk::Desk,
    intake::Command,
    metrics::Metrics,
    orders::{Change, Following},
    ring::{Progress, Ring, RingError, RingTransport},
    schedule::{Limits, Restart},
    status::{Phase, RingStatus},
};

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Everything that the pass loop owns.
pub(crate) struct Coordinator<T: RingTransport> {
    pub(crate) transport: T,
    pub(crate) desk: Desk,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) following: Following,
    pub(crate) queue_limit: usize,
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

enum End {
    Stopped,
    /// Another plan came.
    Replanned,
    Lost {
        error: RingError,
        why: Restart,
    },
}

impl<T: RingTransport> Coordinator<T> {
    /// Runs until it is stopped. Every stream has ended then.
    pub(crate) async fn run(mut self) {
        while let Some(ring) = self.bring_up().await {
            match self.serve(ring).await {
                End::Stopped => break,
                // The passes on their way are abandoned: what they would have drawn is drawn again.
                End::Replanned => self.status.set_phase(Phase::Recovering, self.state.last),
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

    /// Sends passes and takes results until the ring breaks, or another plan comes.
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
                Some(change) = self.following.changed() => match change {
                    Change::Plan => return End::Replanned,
                    // Workers that have moved have broken the ring, or will.
                    Change::Workers | Change::Name => {
                        self.status.hear(&self.following.served);
                        continue;
                    }
                },
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
            self.take_up();
            if !self.wait(self.pause()).await {
                return None;
            }
            self.state.attempts = self.state.attempts.saturating_add(1);
            let Some(peers) = self.wait_for_peers().await? else { continue };
            self.state.last += 1;
            match self.configure(&peers).await? {
                Ok(ring) => {
                    self.tell_ready();
                    return Some(ring);
                }
                Err(_) if self.following.has_next() => {}
                Err(error) => {
                    self.state.last = self.state.last.max(error.epoch.unwrap_or(0));
                    tracing::debug!(error = %error.reason, "the ring is not ready");
                    self.tell_lost(&error);
                }
            }
        }
    }

    /// Takes up the plan that came, if one did: every sequence is kept, and nothing of it is known to the plan's ring.
    fn take_up(&mut self) {
        if !self.following.take_up() {
            return;
        }
        let orders = &self.following.served;
        let (name, generation) = (orders.name.clone(), orders.generation);
        tracing::info!(plan = name, generation, "another plan is taken up");
        self.state.attempts = 0;
        self.state.told = None;
        self.status.take_up(orders);
        self.metrics.plan_taken();
        self.desk.take_up(Limits::of(&orders.plan, self.queue_limit));
        self.transport.take_up(orders.plan.clone());
        let _ = self.events.send(Event::PlanTaken { name, generation });
    }

    /// One attempt. It ends early when a worker comes up at a new address, or another plan comes.
    async fn configure(&mut self, peers: &[Peer]) -> Option<Result<T::Ring, RingError>> {
        let Self { transport, desk, commands, following, status, events, stop, state, .. } = self;
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
                Some(change) = following.changed() => {
                    let over = |reason: &str| Some(Err(RingError { device: None, reason: reason.into(), epoch: None }));
                    if change == Change::Plan {
                        return over("another plan is to be followed");
                    }
                    status.hear(&following.served);
                    if following.served.peers().as_deref() != Some(peers) {
                        return over("a worker has a new address");
                    }
                }
            }
        }
    }

    /// The addresses of all devices, as soon as all are there, or nothing when another plan comes; `None` when stopped.
    async fn wait_for_peers(&mut self) -> Option<Option<Vec<Peer>>> {
        loop {
            if let Some(peers) = self.following.served.peers() {
                return Some(Some(peers));
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                Some(command) = self.commands.recv() => self.desk.handle(command),
                change = self.following.changed() => match change {
                    Some(Change::Plan) => return Some(None),
                    Some(Change::Workers | Change::Name) => self.status.hear(&self.following.served),
                    None => {
                        self.status.set_trouble("a device of the plan has no address, and none will come");
                        self.stop.cancelled().await;
                        return None;
                    }
                }
            }
        }
    }

    /// Waits, unless a worker comes up at a new address before, or another plan; false when stopped.
    async fn wait(&mut self, pause: Duration) -> bool {
        let mut pause = std::pin::pin!(sleep(pause));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                Some(command) = self.commands.recv() => self.desk.handle(command),
                Some(change) = self.following.changed() => match change {
                    Change::Plan => return true,
                    Change::Workers => {
                        self.status.hear(&self.following.served);
                        return true;
                    }
                    Change::Name => self.status.hear(&self.following.served),
                },
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
