//! What the services of a worker share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lime_engine::Isa;
use lime_ring::{LinkShape, RingFault, Transport, wrong_epoch};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    assignment::Assignment, command::Command, config::WorkerConfig, counters::Counters, session::Session,
    vitals::Vitals,
};

/// A worker, as its services see it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) link: Option<LinkShape>,
    pub(crate) transport: Transport,
    pub(crate) counters: Arc<Counters>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) compute: mpsc::Sender<Command>,
    /// Instruction set and threads of what is computed for other devices.
    pub(crate) kernels: (Isa, usize),
    session: Mutex<Option<Arc<Session>>>,
}

impl Worker {
    pub(crate) fn new(
        config: WorkerConfig,
        counters: Arc<Counters>,
        vitals: Arc<Vitals>,
        compute: mpsc::Sender<Command>,
    ) -> Self {
        let WorkerConfig { name, link, transport, isa, threads, .. } = config;
        let isa = isa.and_then(|name| Isa::by_name(&name)).unwrap_or_else(Isa::detect);
        let kernels = (isa, threads.max(1));
        Self { name, link, transport, counters, vitals, compute, kernels, session: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch in force, ended or not.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.lock().clone()
    }

    /// Begins a newer epoch and ends the older one.
    pub(crate) fn begin(&self, assignment: Assignment) -> Result<Arc<Session>, Status> {
        let mut current = self.lock();
        let epoch = assignment.epoch;
        if let Some(old) = current.as_ref() {
            // Who says which epoch it gives up has seen it, and is no message that was late. Else one with an epoch out of all proportion
            // would have this worker to itself until it is restarted.
            let given_up = assignment.replaces == old.epoch && epoch != old.epoch;
            if epoch <= old.epoch && !given_up {
                return Err(wrong_epoch(old.name(), epoch, old.epoch));
            }
            old.end(RingFault::superseded(old.name(), old.epoch, epoch));
        }
        let session = Session::new(assignment, self.link, self.counters.link.clone())
            .map_err(|error| Status::resource_exhausted(format!("no thread for a link: {error}")))?;
        let session = Arc::new(session);
        *current = Some(session.clone());
        Ok(session)
    }

    /// The live session of the epoch that a request names; any live one where it names none.
    pub(crate) fn live_session(&self, epoch: Option<u64>) -> Result<Arc<Session>, Status> {
        let Some(session) = self.session() else {
            return Err(wrong_epoch(&self.name, epoch.unwrap_or_default(), 0));
        };
        if let Some(found) = epoch.filter(|epoch| *epoch != session.epoch) {
            return Err(wrong_epoch(session.name(), found, session.epoch));
        }
        match session.cause() {
            Some(cause) => Err(cause.status()),
            None => Ok(session),
        }
    }

    /// Ends the epoch in force because the worker stops.
    pub(crate) fn leave(&self) {
        if let Some(session) = self.session() {
            session.end(RingFault::lost(session.name(), "it was stopped"));
        }
    }
}
