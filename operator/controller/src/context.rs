//! What reconciles share: the client, the world, and what is remembered between visits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use kube::{Client, runtime::events::Recorder};
use lime_plan::Bytes;

use crate::{
    build::Kind, heartbeats::Heartbeats, leader::Leadership, metrics::Metrics, probe::Probe, settings::Settings,
    snapshot::Tried, world::World,
};

/// What reconciles share.
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// What is, as the watches tell.
    pub world: World,
    /// What the command line says.
    pub settings: Settings,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// Figures for /metrics.
    pub metrics: Metrics,
    /// Writes events.
    pub recorder: Recorder,
    /// Asks gateways.
    pub probe: Probe,
    /// Operators of other namespaces, and when they were seen to live.
    pub others: Heartbeats,
    /// One decision at a time: two plans must not lend the same memory twice.
    pub deciding: tokio::sync::Mutex<()>,
    filled: tokio::sync::watch::Sender<bool>,
    memory: Mutex<BTreeMap<String, Recollection>>,
}

/// What is remembered of a deployment between visits. Losing it costs time, never correctness.
#[derive(Clone, Debug, Default)]
pub struct Recollection {
    /// Since when each trigger has been there.
    pub since: BTreeMap<&'static str, Timestamp>,
    /// What a plan was tried for in vain.
    pub tried: BTreeSet<Tried>,
    /// Memory that its workers held at the last visit, by node.
    pub held: Option<BTreeMap<String, Bytes>>,
    /// Memory that its plan takes, by node, until the watches show the plan.
    pub taken: Option<BTreeMap<String, Bytes>>,
    /// What people were told at the last visit.
    pub told: BTreeSet<(&'static str, String)>,
    /// What was applied: digest and resource version of each object.
    pub applied: BTreeMap<(Kind, String), (String, String)>,
    /// The version of the deployment that the last write of its status made.
    pub written: Option<String>,
    /// What the API server refused to make at the last visit, by name: in its own words.
    pub refused: BTreeMap<String, String>,
    /// Failed visits in a row.
    pub failures: u32,
}

impl Context {
    /// A context that remembers nothing.
    pub fn new(client: Client, world: World, settings: Settings, leadership: Leadership, recorder: Recorder) -> Self {
        Self {
            client,
            world,
            settings,
            leadership,
            metrics: Metrics::default(),
            recorder,
            probe: Probe::default(),
            others: Heartbeats::default(),
            deciding: tokio::sync::Mutex::default(),
            filled: tokio::sync::watch::Sender::new(false),
            memory: Mutex::default(),
        }
    }

    /// Waits for the stores and tells everyone who waits in [`Self::until_filled`]. For one task alone: a store wakes only the
    /// one that asked last.
    pub async fn fill(&self) {
        self.world.filled().await;
        self.filled.send_replace(true);
    }

    /// Waits until every store has been filled once.
    pub async fn until_filled(&self) {
        // The sender is a field beside this borrow: it cannot be gone.
        let _ = self.filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// Whether every store has been filled once.
    pub fn is_filled(&self) -> bool {
        *self.filled.borrow()
    }

    /// What is remembered of the deployment `uid`.
    pub fn recall(&self, uid: &str) -> Recollection {
        self.memories().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is remembered.
    pub fn remember(&self, uid: &str, change: impl FnOnce(&mut Recollection)) {
        change(self.memories().entry(uid.to_owned()).or_default());
    }

    /// Forgets deployments that are gone.
    pub fn forget_all_but(&self, uids: &BTreeSet<String>) {
        self.memories().retain(|uid, _| uids.contains(uid));
    }

    /// What other deployments' plans take that the watches may not show yet.
    pub fn taken(&self) -> BTreeMap<String, BTreeMap<String, Bytes>> {
        self.memories().iter().filter_map(|(uid, memory)| Some((uid.clone(), memory.taken.clone()?))).collect()
    }

    fn memories(&self) -> MutexGuard<'_, BTreeMap<String, Recollection>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
