//! The state of the ring, as HTTP and people see it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lime_plan::Plan;
use lime_ring::Peer;
use tokio::sync::watch;

use crate::{
    config::Event,
    happenings::Happenings,
    orders::Orders,
    ring::{Progress, RingCause},
};

/// Where the ring is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has never served.
    #[default]
    Loading,
    /// Another gateway has the ring and ends its answers first.
    Waiting,
    /// It serves.
    Ready,
    /// It broke and is being brought back.
    Recovering,
    /// It has been brought back for so long that nobody is kept waiting for it any more.
    Unavailable,
    /// The gateway is stopping.
    Stopping,
}

impl Phase {
    /// For machines.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Recovering => "recovering",
            Self::Unavailable => "unavailable",
            Self::Stopping => "stopping",
        }
    }
}

/// The plan in use, as far as HTTP has to know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServedPlan {
    pub(crate) name: String,
    pub(crate) generation: u64,
    /// Names the text of the orders.
    pub(crate) digest: String,
    /// Longest sequence that the plan has room for.
    pub(crate) context: u32,
    /// KV slots.
    pub(crate) slots: u32,
    pub(crate) workers: Vec<Peer>,
    /// The whole of it; none before there are orders.
    pub(crate) plan: Option<Arc<Plan>>,
}

impl ServedPlan {
    /// What `orders` say.
    pub(crate) fn of(orders: &Orders) -> Self {
        let Orders { name, generation, digest, plan, workers } = orders.clone();
        let (context, slots) = (plan.longest_context(), plan.serving.max_concurrent_requests);
        Self { name, generation, digest, context, slots, workers, plan: Some(plan) }
    }
}

/// A view of the ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct RingState {
    pub(crate) phase: Phase,
    pub(crate) epoch: u64,
    /// Loaded and total bytes by device.
    pub(crate) devices: BTreeMap<String, (u64, u64)>,
    /// What keeps it from serving, where something does.
    pub(crate) trouble: Option<String>,
    /// What that is, where something else than the ring must change.
    pub(crate) cause: Option<RingCause>,
    pub(crate) plan: ServedPlan,
    pub(crate) happenings: Happenings,
}

/// Shared by the pass loop, which writes, and HTTP, which reads.
#[derive(Debug, Default)]
pub(crate) struct RingStatus {
    state: Mutex<RingState>,
    changed: watch::Sender<()>,
}

impl RingStatus {
    /// A fresh view of the plan's devices.
    pub(crate) fn new(orders: &Orders) -> Self {
        let status = Self::default();
        status.take_up(orders);
        status
    }

    /// Another plan: nothing is loaded of it yet.
    pub(crate) fn take_up(&self, orders: &Orders) {
        self.change(|state| {
            state.devices = orders.plan.devices.iter().map(|device| (device.name.clone(), (0, 0))).collect();
            state.plan = ServedPlan::of(orders);
            (state.trouble, state.cause) = (None, None);
        });
    }

    /// The same plan: new addresses, or a new text of the same orders.
    pub(crate) fn hear(&self, orders: &Orders) {
        self.change(|state| state.plan = ServedPlan::of(orders));
    }

    /// The plan in use.
    pub(crate) fn plan(&self) -> ServedPlan {
        self.lock().plan.clone()
    }

    /// A copy of the state.
    pub(crate) fn view(&self) -> RingState {
        self.lock().clone()
    }

    /// The phase alone.
    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Moves on; a stopping gateway stays so.
    pub(crate) fn set_phase(&self, phase: Phase, epoch: u64) {
        self.change(|state| {
            state.epoch = epoch;
            if state.phase != Phase::Stopping {
                state.phase = phase;
            }
            if phase == Phase::Ready {
                (state.trouble, state.cause) = (None, None);
            }
        });
    }

    /// Says what keeps the ring from serving.
    pub(crate) fn set_trouble(&self, trouble: &str, cause: Option<RingCause>) {
        self.change(|state| (state.trouble, state.cause) = (Some(trouble.to_owned()), cause));
    }

    /// Takes something down for those who look later.
    pub(crate) fn note(&self, event: &Event) {
        self.change(|state| state.happenings.note(event));
    }

    /// Tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes a worker's progress down.
    pub(crate) fn set_progress(&self, progress: &Progress) {
        self.change(|state| state.devices.insert(progress.device.clone(), (progress.loaded, progress.total)));
    }

    fn change<T>(&self, change: impl FnOnce(&mut RingState) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loading progress in whole per cent; nothing known yet is 0.
pub(crate) fn percent((loaded, total): (u64, u64)) -> u64 {
    if total == 0 { 0 } else { (u128::from(loaded.min(total)) * 100 / u128::from(total)) as u64 }
}
