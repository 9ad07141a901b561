//! The pass loop: brings the ring up, sends passes, hands tokens out, and brings the ring up again when it breaks or when
//! another plan is to be followed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lime_plan::Bytes;
use lime_ring::{Demands, Peer};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Event,
    dispatcher::Dispatcher,
    epochs::Epochs,
    intake::Command,
    metrics::Metrics,
    orders::{Change, Following},
    recovery::{Recovery, Repair},
    ring::{Holder, Progress, Ring, RingError, RingTransport, SubmitError},
    schedule::{Completed, Limits, Restart},
    status::{Phase, RingStatus},
    turn::{Place, Turn},
};

/// How often a gateway that waits for its turn asks whether it has come.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Everything that the pass loop owns.
pub(crate) struct Coordinator<T: RingTransport> {
    pub(crate) transport: T,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) following: Following,
    pub(crate) queue_limit: usize,
    pub(crate) status: Arc<RingStatus>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) stop: CancellationToken,
    /// It stops when its answers have ended.
    pub(crate) leaving: CancellationToken,
    pub(crate) longest_pause: Duration,
    pub(crate) quiet: Duration,
    pub(crate) state: Epochs,
    pub(crate) recovery: Recovery,
    pub(crate) repair: Repair,
    pub(crate) turn: Turn,
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
                End::Stopped => {
                    if let Some(peers) = self.following.served.peers() {
                        self.transport.let_go(self.state.last, &peers).await;
                    }
                    break;
                }
                // The passes on their way are abandoned: what they would have drawn is drawn again.
                End::Replanned => {
                    self.recovery.trouble(Instant::now());
                    self.status.set_phase(Phase::Recovering, self.state.last);
                }
                End::Lost { error, why } => {
                    tracing::warn!(epoch = self.state.last, error = %error.reason, "the ring is over");
                    self.status.set_phase(Phase::Recovering, self.state.last);
                    self.recovery.trouble(Instant::now());
                    self.tell_lost(&error);
                    self.dispatcher.restart(why, &error.reason);
                }
            }
        }
        self.dispatcher.close();
    }

    /// Sends passes and takes results until the ring breaks, or another plan comes.
    async fn serve(&mut self, mut ring: T::Ring) -> End {
        let lost = |error| End::Lost { error, why: Restart::RingLost };
        let (mut heard, mut told) = (Instant::now(), self.turn.name().is_none());
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.dispatcher.handle(command);
            }
            while let Some(pass) = self.dispatcher.next_pass() {
                match ring.submit(pass).await {
                    Ok(()) => {}
                    Err(SubmitError::Refused { slot, reason }) => {
                        if let Err(fault) = self.dispatcher.take_back(slot, &reason) {
                            return lost(RingError::of(fault.to_string()));
                        }
                    }
                    Err(SubmitError::Lost(error)) => return lost(error),
                }
            }
            if self.dispatcher.idle() {
                self.recovery.over();
                heard = Instant::now();
            }
            let result = tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stopped,
                () = self.leaving.cancelled(), if !told => {
                    told = true;
                    if let Some(peers) = self.following.served.peers() {
                        self.transport.stay(self.state.last, &peers).await;
                    }
                    continue;
                }
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
                    self.dispatcher.handle(command);
                    continue;
                }
                // A pass may take its time; a worker that hangs takes all of it.
                () = sleep_until(heard + self.quiet) => {
                    if let Some(error) = ring.stuck().await {
                        return lost(error);
                    }
                    heard = Instant::now();
                    continue;
                }
            };
            heard = Instant::now();
            let result = match result {
                Ok(result) => result,
                Err(error) => return lost(error),
            };
            let served = result.failure.is_empty();
            match self.dispatcher.complete(result) {
                Ok(Completed::Taken | Completed::Refused(..)) => {}
                Ok(Completed::Failed(kind, reason)) => {
                    let why = self.repair.failed(kind, Instant::now());
                    return End::Lost { error: RingError::of(reason), why };
                }
                Err(fault) => return lost(RingError::of(fault.to_string())),
            }
            if served {
                self.recovery.over();
                self.state.attempts = 0;
            }
        }
    }

    /// A ring at a new epoch, however long it takes; `None` when stopped.
    async fn bring_up(&mut self) -> Option<T::Ring> {
        loop {
            self.take_up();
            if !self.wait(self.state.pause(self.longest_pause)).await {
                return None;
            }
            self.state.attempts = self.state.attempts.saturating_add(1);
            let Some(peers) = self.wait_for_peers().await? else { continue };
            if !self.await_turn(&peers).await? {
                continue;
            }
            self.state.last += 1;
            match self.configure(&peers).await? {
                Ok(mut ring) => {
                    self.state.replaces.clear();
                    self.dispatcher.found(&ring.take_restorable());
                    self.repair.done(ring.verified(), Instant::now());
                    self.tell_ready();
                    return Some(ring);
                }
                Err(_) if self.following.has_next() => {}
                Err(error) => {
                    if let Some(current) = error.epoch {
                        self.state.learn(error.device.as_ref(), current);
                    }
                    // Before it has served for the first time nobody waits.
                    if self.state.served {
                        self.recovery.trouble(Instant::now());
                    }
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
        self.dispatcher.take_up(Limits::of(&orders.plan, self.queue_limit));
        self.transport.take_up(orders.plan.clone());
        self.tell(Event::PlanTaken { name, generation });
    }

    /// One attempt. It ends early when a worker comes up at a new address, or another plan comes.
    async fn configure(&mut self, peers: &[Peer]) -> Option<Result<T::Ring, RingError>> {
        let Self {
            transport,
            dispatcher,
            commands,
            following,
            status,
            events,
            stop,
            state,
            recovery,
            repair,
            turn,
            ..
        } = self;
        // Progress moves the deadline that is waited for below.
        let recovery = Mutex::new(recovery);
        let recovery = || recovery.lock().unwrap_or_else(PoisonError::into_inner);
        let (replaces, gateway) = (state.replaces.clone(), turn.name().cloned());
        let demands = Demands { verify: repair.wanted(), replaces, gateway };
        let progress = |progress: Progress| {
            status.set_progress(&progress);
            let now = Instant::now();
            if progress.verifying {
                recovery().goes_on(now);
            } else if let Some(peer) = peers.iter().find(|peer| peer.device == progress.device) {
                recovery().loaded(peer, progress.loaded, now);
            }
            let (loaded, total) = (Bytes(progress.loaded), Bytes(progress.total));
            // Nobody need listen.
            let _ = events.send(Event::Loading { device: progress.device, loaded, total });
        };
        let mut attempt = std::pin::pin!(transport.configure(state.last, peers, &demands, progress));
        loop {
            let deadline = recovery().deadline();
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                result = &mut attempt => return Some(result),
                () = overdue(deadline) => give_up(&mut recovery(), dispatcher, status, events),
                Some(command) = commands.recv() => dispatcher.handle(command),
                Some(change) = following.changed() => {
                    let over = |reason: &str| Some(Err(RingError::of(reason)));
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

    /// Waits while another gateway has the ring: requests wait too, and are answered when it has ended its own. False when another plan
    /// or other addresses came meanwhile; `None` when stopped.
    async fn await_turn(&mut self, peers: &[Peer]) -> Option<bool> {
        let mut waited = false;
        loop {
            let holders = match self.turn.name() {
                Some(_) => self.holders(peers).await?,
                None => Vec::new(),
            };
            let now = Instant::now();
            let before = match self.turn.place(&holders, self.state.served, now) {
                Place::Ours => None,
                Place::Overdue(before) => {
                    tracing::warn!(before, "the gateway before this one does not let the ring go: it is taken over");
                    None
                }
                Place::After(before) => Some(before),
            };
            let Some(before) = before else {
                if waited {
                    self.recovery.trouble(now);
                    self.status.set_phase(Phase::Recovering, self.state.last);
                }
                return Some(true);
            };
            if !waited {
                tracing::info!(before, "another gateway has the ring: this one waits until its answers have ended");
            }
            waited = true;
            let text = format!("{before} has the ring until its answers have ended; requests wait");
            self.status.set_trouble(&text, None);
            if !self.state.served {
                self.status.set_phase(Phase::Waiting, self.state.last);
            }
            if !self.wait(ASK_AGAIN).await {
                return None;
            }
            if self.following.has_next() || self.following.served.peers().as_deref() != Some(peers) {
                return Some(false);
            }
        }
    }

    /// Who has the ring, as its workers say; `None` when stopped.
    async fn holders(&mut self, peers: &[Peer]) -> Option<Vec<Holder>> {
        let Self { transport, dispatcher, commands, stop, .. } = self;
        let mut asked = std::pin::pin!(transport.holders(peers));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                holders = &mut asked => return Some(holders),
                Some(command) = commands.recv() => dispatcher.handle(command),
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
                () = overdue(self.recovery.deadline()) => self.give_up(),
                Some(command) = self.commands.recv() => self.dispatcher.handle(command),
                change = self.following.changed() => match change {
                    Some(Change::Plan) => return Some(None),
                    Some(Change::Workers | Change::Name) => self.status.hear(&self.following.served),
                    None => {
                        self.status.set_trouble("a device of the plan has no address, and none will come", None);
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
                () = overdue(self.recovery.deadline()) => self.give_up(),
                Some(command) = self.commands.recv() => self.dispatcher.handle(command),
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

    fn give_up(&mut self) {
        give_up(&mut self.recovery, &mut self.dispatcher, &self.status, &self.events);
    }

    fn tell_ready(&mut self) {
        let epoch = self.state.last;
        self.dispatcher.serves();
        self.status.set_phase(Phase::Ready, epoch);
        self.state.told = None;
        let event = if self.state.served { Event::Recovered { epoch } } else { Event::Ready { epoch } };
        self.metrics.ring_up(epoch, self.state.served);
        self.state.served = true;
        tracing::info!(epoch, "the ring serves");
        self.tell(event);
    }

    /// Says what is wrong, once for each cause.
    fn tell_lost(&mut self, error: &RingError) {
        self.status.set_trouble(&error.reason, error.cause.clone());
        if self.state.told.as_deref() == Some(&error.reason) {
            return;
        }
        self.state.told = Some(error.reason.clone());
        let device = error.device.clone().unwrap_or_else(|| "ring".to_owned());
        self.tell(Event::WorkerLost { device, reason: error.reason.clone() });
    }

    fn tell(&self, event: Event) {
        self.status.note(&event);
        // Nobody need listen.
        let _ = self.events.send(event);
    }
}

/// Resolves at the deadline, if there is one.
async fn overdue(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Tells those who wait that the ring does not come back, unless it has got on meanwhile. It is tried on all the same.
fn give_up(
    recovery: &mut Recovery,
    dispatcher: &mut Dispatcher,
    status: &RingStatus,
    events: &mpsc::UnboundedSender<Event>,
) {
    if recovery.deadline().is_none_or(|deadline| deadline > Instant::now()) {
        return;
    }
    recovery.give_up();
    let view = status.view();
    let reason = view.trouble.unwrap_or_else(|| "its workers do not get ready".to_owned());
    tracing::error!(reason, "the ring does not come back: requests are answered with an error until it does");
    status.set_phase(Phase::Unavailable, view.epoch);
    dispatcher.give_up(&reason);
    let event = Event::Unavailable { reason };
    status.note(&event);
    let _ = events.send(event);
}
