//! The ring as the gateway sees it, behind a trait: tests put a ring of their own in its place.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use lime_plan::Plan;
use lime_ring::{
    Demands, DriverError, FaultKind, FrameLimits, PassSubmitter, Peer, Restorable, ResultStream, RingDriver, RingFault,
    RingTopology, Transport, Verified, drain,
    proto::{self, FailureKind, PassResult},
    status, stay,
};
use thiserror::Error;
use tokio::time::timeout;

use crate::schedule::PassRequest;

/// A worker says in milliseconds how it is.
const ANSWER: Duration = Duration::from_secs(3);

/// How long a gateway that leaves tells workers so.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A ring that could not be had, or broke.
#[derive(Clone, Debug, Error)]
#[error("{reason}")]
pub struct RingError {
    /// The device to blame, where one is.
    pub device: Option<String>,
    /// A sentence for people.
    pub reason: String,
    /// The epoch at which a worker is already; the next one must be above.
    pub epoch: Option<u64>,
    /// What it is, where something else than the ring must change.
    pub cause: Option<RingCause>,
}

impl RingError {
    /// Nothing is known but a sentence.
    pub fn of(reason: impl Into<String>) -> Self {
        Self { device: None, reason: reason.into(), epoch: None, cause: None }
    }
}

/// Why a ring cannot be had, where trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingCause {
    /// Both devices answer the gateway, and one does not reach the other.
    Link {
        /// Who says so.
        from: String,
        /// Whom it does not reach.
        to: String,
    },
    /// The builds of this device and of one that asked it do not speak the same wire.
    Version {
        /// The device.
        device: String,
    },
    /// The device cannot have its weights.
    Weights {
        /// The device.
        device: String,
        /// Why not.
        fault: WeightsFault,
    },
}

/// Why a device cannot have its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsFault {
    /// They do not fit on its disk.
    DiskFull,
    /// What was written comes back as something else.
    Damaged,
    /// Their source does not give them.
    Source,
}

impl RingCause {
    fn of(fault: &RingFault) -> Option<Self> {
        let device = fault.device.clone();
        let weights = |fault| Some(Self::Weights { device: device.clone(), fault });
        match (fault.kind, fault.failure) {
            (FaultKind::Version, _) => Some(Self::Version { device }),
            (FaultKind::Failed, FailureKind::DiskFull) => weights(WeightsFault::DiskFull),
            (FaultKind::Failed, FailureKind::Damaged) => weights(WeightsFault::Damaged),
            (FaultKind::Failed, FailureKind::Source) => weights(WeightsFault::Source),
            _ => None,
        }
    }
}

/// A pass that was not sent.
#[derive(Clone, Debug, Error)]
pub enum SubmitError {
    /// A sequence of it asks for what can be done on no try; the ring goes on.
    #[error("{reason}")]
    Refused {
        /// The sequence's KV slot.
        slot: u32,
        /// What it asks for.
        reason: String,
    },
    /// The ring is over.
    #[error(transparent)]
    Lost(#[from] RingError),
}

/// A gateway that has a worker's ring, as the worker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub gateway: String,
    /// For how long the worker has had no stream of it.
    pub away: Duration,
}

/// How far a worker is with its configuration.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The device.
    pub device: String,
    /// Bytes that it holds.
    pub loaded: u64,
    /// Bytes that it will hold.
    pub total: u64,
    /// It compares its blocks with their digests, and gets on with it.
    pub verifying: bool,
}

/// Brings rings up.
pub trait RingTransport: Send + 'static {
    /// A ring at one epoch.
    type Ring: Ring;

    /// Takes another plan up: rings that are brought up from now on are its.
    fn take_up(&mut self, plan: Arc<Plan>);

    /// Takes every worker of the plan to `epoch` as `demands` say, and opens the streams. `progress` hears of loading.
    fn configure(
        &mut self,
        epoch: u64,
        peers: &[Peer],
        demands: &Demands,
        progress: impl FnMut(Progress) + Send,
    ) -> impl Future<Output = Result<Self::Ring, RingError>> + Send;

    /// Who has the ring, as those of its workers say that answer. Nobody, where nobody gave a name.
    fn holders(&mut self, peers: &[Peer]) -> impl Future<Output = Vec<Holder>> + Send {
        let _ = peers;
        async { Vec::new() }
    }

    /// Tells the workers of `epoch` that this gateway leaves when its answers have ended: until then it needs them.
    fn stay(&mut self, epoch: u64, peers: &[Peer]) -> impl Future<Output = ()> + Send {
        let _ = (epoch, peers);
        async {}
    }

    /// Lets the ring of `epoch` go: the next gateway need not wait.
    fn let_go(&mut self, epoch: u64, peers: &[Peer]) -> impl Future<Output = ()> + Send {
        let _ = (epoch, peers);
        async {}
    }
}

/// A ring at one epoch. After an error it is over.
pub trait Ring: Send {
    /// Sends a pass: the first one is number 1, each other one more than the last.
    fn submit(&mut self, pass: PassRequest) -> impl Future<Output = Result<(), SubmitError>> + Send;

    /// The next result, in the order of the passes. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<PassResult, RingError>> + Send;

    /// A worker that says that it is stuck, if one does.
    fn stuck(&self) -> impl Future<Output = Option<RingError>> + Send {
        async { None }
    }

    /// What comparing found, where the configuration asked for it.
    fn verified(&self) -> Verified {
        Verified::default()
    }

    /// KV pages that each device can restore that has a KV cache; once.
    fn take_restorable(&mut self) -> Vec<Restorable> {
        Vec::new()
    }
}

/// The ring of a plan's workers, over gRPC.
pub(crate) struct WorkerRing {
    plan: Arc<Plan>,
    transport: Transport,
    patience: Duration,
}

impl WorkerRing {
    /// The ring of `plan`; one attempt to reach a worker takes at most `patience`.
    pub(crate) fn new(plan: Arc<Plan>, transport: Transport, patience: Duration) -> Self {
        Self { plan, transport, patience }
    }

    /// The ring as its driver knows it, with the workers at `peers`.
    fn topology(&self, peers: &[Peer]) -> Result<RingTopology, RingError> {
        let fault = |reason: String| RingError::of(reason);
        let plan = &self.plan;
        let peer = |name: &String| peers.iter().find(|peer| peer.device == *name);
        let in_order = plan.devices.iter().map(|device| peer(&device.name));
        let in_order: Option<Vec<&Peer>> = in_order.collect();
        let in_order = in_order.ok_or_else(|| fault("a device of the plan has no address".into()))?;
        let json = serde_json::to_vec(&**plan);
        Ok(RingTopology {
            plan_json: Bytes::from(
                json.map_err(|error| fault(format!("the plan cannot be sent to workers: {error}")))?,
            ),
            peers: in_order.into_iter().cloned().collect(),
            head: plan.head.0 as usize,
            limits: FrameLimits::of(plan),
            transport: self.transport.clone(),
        })
    }
}

impl RingTransport for WorkerRing {
    type Ring = OpenRing;

    fn take_up(&mut self, plan: Arc<Plan>) {
        self.plan = plan;
    }

    async fn configure(
        &mut self,
        epoch: u64,
        peers: &[Peer],
        demands: &Demands,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<OpenRing, RingError> {
        let topology = self.topology(peers)?;
        let report = |peer: &Peer, message: &proto::ConfigureProgress| {
            progress(Progress {
                device: peer.device.clone(),
                loaded: message.loaded_bytes,
                total: message.total_bytes,
                verifying: message.phase == "verifying",
            });
        };
        let mut driver = match RingDriver::configure_with(&topology, epoch, demands, self.patience, report).await {
            Ok(driver) => driver,
            Err(error) => return Err(Ending::of(error).explained(&topology.peers, &self.transport).await),
        };
        let verified = driver.verified();
        let caches = self.plan.devices.iter().map(|device| device.attentions() > 0);
        let told = driver.take_restorable().into_iter().zip(caches);
        let restorable = told.filter_map(|(told, has_cache)| has_cache.then_some(told)).collect();
        let (submitter, results) = driver.split();
        let (peers, transport) = (topology.peers.clone(), self.transport.clone());
        Ok(OpenRing { submitter, results, verified, restorable, peers, transport, ending: None })
    }

    async fn holders(&mut self, peers: &[Peer]) -> Vec<Holder> {
        let asked = peers.iter().map(|peer| timeout(ANSWER, holder(&self.transport, peer)));
        join_all(asked).await.into_iter().filter_map(|holder| holder.ok().flatten()).collect()
    }

    async fn stay(&mut self, epoch: u64, peers: &[Peer]) {
        let transport = &self.transport;
        let told = peers.iter().map(|peer| timeout(LAST_WORD, stay(transport, peer, epoch)));
        // Whoever does not hear it leaves when it is told to, and streams pause.
        join_all(told).await;
    }

    async fn let_go(&mut self, epoch: u64, peers: &[Peer]) {
        let transport = &self.transport;
        let told = peers.iter().map(|peer| timeout(LAST_WORD, drain(transport, peer, Some(epoch))));
        // Whoever does not hear it finds out by the streams that end.
        join_all(told).await;
    }
}

/// Who has the ring of the worker at `peer`; nobody, where it does not answer.
async fn holder(transport: &Transport, peer: &Peer) -> Option<Holder> {
    let reply = status(transport, peer).await.ok()?;
    let holder = Holder { gateway: reply.holder, away: Duration::from_millis(reply.holder_away_millis) };
    (!holder.gateway.is_empty()).then_some(holder)
}

/// Both streams of a configured ring.
pub(crate) struct OpenRing {
    submitter: PassSubmitter,
    results: ResultStream,
    verified: Verified,
    restorable: Vec<Restorable>,
    peers: Vec<Peer>,
    transport: Transport,
    /// Why it is over. Whoever asks for it may be called away before it is explained, and asks again.
    ending: Option<Ending>,
}

impl Ring for OpenRing {
    async fn submit(&mut self, pass: PassRequest) -> Result<(), SubmitError> {
        let PassRequest { rows, tokens, release, keep, forget, restore } = pass;
        let pass = proto::Pass { rows, tokens, release, keep, forget, restore, ..proto::Pass::default() };
        let sent = self.submitter.send(pass).await;
        match sent {
            Ok(_) => Ok(()),
            Err(DriverError::Pass(fault)) => Err(match fault.refused_slot() {
                Some(slot) => SubmitError::Refused { slot, reason: fault.to_string() },
                None => SubmitError::Lost(DriverError::Pass(fault).into()),
            }),
            // The result stream knows the cause.
            Err(DriverError::Closed { .. }) => match self.next().await {
                Err(cause) => Err(cause.into()),
                Ok(_) => Err(RingError::from(DriverError::Closed { epoch: 0 }).into()),
            },
            Err(other) => Err(RingError::from(other).into()),
        }
    }

    async fn next(&mut self) -> Result<PassResult, RingError> {
        let ending = match self.ending.clone() {
            Some(ending) => ending,
            None => match self.results.next().await {
                Ok(result) => return Ok(result),
                Err(error) => self.ending.insert(Ending::of(error)).clone(),
            },
        };
        Err(ending.explained(&self.peers, &self.transport).await)
    }

    async fn stuck(&self) -> Option<RingError> {
        let asked = self.peers.iter().map(|peer| stuck(self.transport.clone(), peer.clone()));
        join_all(asked).await.into_iter().flatten().next()
    }

    fn verified(&self) -> Verified {
        self.verified
    }

    fn take_restorable(&mut self) -> Vec<Restorable> {
        std::mem::take(&mut self.restorable)
    }
}

/// What the worker at `peer` says that it is stuck in. Who does not answer at all is found by the streams to it.
async fn stuck(transport: Transport, peer: Peer) -> Option<RingError> {
    let stuck = timeout(ANSWER, status(&transport, &peer)).await.ok()?.ok()?.stuck;
    let reason = format!("device {:?} is stuck: {stuck}", peer.device);
    (!stuck.is_empty()).then_some(RingError { device: Some(peer.device), ..RingError::of(reason) })
}

impl From<DriverError> for RingError {
    fn from(error: DriverError) -> Self {
        let epoch = match &error {
            DriverError::Epoch { current, .. } => Some(*current),
            _ => None,
        };
        let cause = match &error {
            DriverError::Fault(fault) => RingCause::of(fault),
            _ => None,
        };
        Self { device: error.device().map(str::to_owned), reason: error.to_string(), epoch, cause }
    }
}

/// What ended a ring, before it is known whether a link is to blame.
#[derive(Clone, Debug)]
struct Ending {
    error: RingError,
    /// A device that misses another.
    ends: Option<(String, String)>,
}

impl Ending {
    fn of(error: DriverError) -> Self {
        let ends = match &error {
            DriverError::Fault(fault) if fault.kind == FaultKind::Lost => {
                fault.seen_by.clone().map(|from| (from, fault.device.clone())).filter(|(from, to)| from != to)
            }
            _ => None,
        };
        Self { error: error.into(), ends }
    }

    /// The error, and whether a link is to blame: a device misses another, and both of them answer here. Who is dead answers nobody.
    async fn explained(self, peers: &[Peer], transport: &Transport) -> RingError {
        let Self { error, ends } = self;
        let Some((from, to)) = ends else { return error };
        let answers = async |device: &str| {
            let Some(peer) = peers.iter().find(|peer| peer.device == device) else { return false };
            timeout(ANSWER, status(transport, peer)).await.is_ok_and(|reply| reply.is_ok())
        };
        match futures::join!(answers(&from), answers(&to)) {
            (true, true) => {
                let both = format!("the link from device {from:?} to device {to:?} is lost: both answer here");
                let reason = format!("{both}; {}", error.reason);
                RingError { reason, cause: Some(RingCause::Link { from, to }), ..error }
            }
            _ => error,
        }
    }
}
