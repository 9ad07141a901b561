//! The state of the ring, as HTTP and people see it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::ring::Progress;

/// Where the ring is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has never served.
    #[default]
    Loading,
    /// It serves.
    Ready,
    /// It broke and is being brought back.
    Recovering,
    /// The gateway is stopping.
    Stopping,
}

impl Phase {
    /// For machines.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Recovering => "recovering",
            Self::Stopping => "stopping",
        }
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
}

/// Shared by the pass loop, which writes, and HTTP, which reads.
#[derive(Debug, Default)]
pub(crate) struct RingStatus(Mutex<RingState>);

impl RingStatus {
    /// A fresh view of the plan's devices.
    pub(crate) fn new(devices: impl Iterator<Item = String>) -> Self {
        let devices = devices.map(|device| (device, (0, 0))).collect();
        Self(Mutex::new(RingState { devices, ..RingState::default() }))
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
        let mut state = self.lock();
        state.epoch = epoch;
        if state.phase != Phase::Stopping {
            state.phase = phase;
        }
        if phase == Phase::Ready {
            state.trouble = None;
        }
    }

    /// Says what keeps the ring from serving.
    pub(crate) fn set_trouble(&self, trouble: &str) {
        self.lock().trouble = Some(trouble.to_owned());
    }

    /// Takes a worker's progress down.
    pub(crate) fn set_progress(&self, progress: &Progress) {
        self.lock().devices.insert(progress.device.clone(), (progress.loaded, progress.total));
    }

    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loading progress in whole per cent; nothing known yet is 0.
pub(crate) fn percent((loaded, total): (u64, u64)) -> u64 {
    if total == 0 { 0 } else { (u128::from(loaded.min(total)) * 100 / u128::from(total)) as u64 }
}
