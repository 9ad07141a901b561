//! One epoch on one worker: its plan, its neighbours, and how it ends.

use std::collections::BTreeSet;
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use lime_plan::{Bytes, DeviceIndex, DeviceSteps, Plan};
use lime_ring::{FrameLimits, FrameQueue, LinkCounters, LinkShape, OutgoingFrames, RingFault, outgoing, proto::Peer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    assignment::Assignment,
    holder::Holder,
    keeper::{Asking, RemoteKeeper, asking},
    results::ResultsHub,
};

/// One epoch. It ends once, with a cause, and everything that belongs to it ends with it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) epoch: u64,
    pub(crate) plan_json: bytes::Bytes,
    pub(crate) plan: Plan,
    pub(crate) device: DeviceIndex,
    pub(crate) limits: FrameLimits,
    pub(crate) peers: Vec<Peer>,
    pub(crate) results: ResultsHub,
    /// The gateway whose ring this is.
    pub(crate) holder: Arc<Holder>,
    pub(crate) ended: CancellationToken,
    cause: OnceLock<RingFault>,
    /// Absent on a ring of one device, which hops to nobody.
    to_successor: Option<FrameQueue>,
    outgoing: Mutex<Option<OutgoingFrames>>,
    /// The device that keeps KV pages for this one, where the plan has one.
    keeper: Option<DeviceIndex>,
    asking: Mutex<(Option<RemoteKeeper>, Option<Asking>)>,
    /// Devices whose pages are kept here, once they have joined.
    askers: Mutex<BTreeSet<DeviceIndex>>,
    ready: AtomicBool,
    draining: AtomicBool,
    /// Whether the gateway leaves when its answers have ended.
    staying: AtomicBool,
    /// Whether every block that is used is to be compared first.
    pub(crate) verify: bool,
    /// Whether that is being done.
    pub(crate) verifying: AtomicBool,
    predecessor_joined: AtomicBool,
    last_pass: AtomicU64,
    in_hand: AtomicU64,
    /// When a pass was finished last, and how long after the one before it.
    last_finished: Mutex<Option<(Instant, Duration)>>,
    finished: Notify,
}

impl Session {
    pub(crate) fn new(
        assignment: Assignment,
        link: Option<LinkShape>,
        counters: Arc<LinkCounters>,
    ) -> std::io::Result<Self> {
        let Assignment { epoch, plan_json, plan, device, peers, replaces: _, verify, gateway } = assignment;
        let (to_successor, frames) = if plan.devices.len() > 1 {
            let (queue, frames) = outgoing(link, counters)?;
            (Some(queue), Some(frames))
        } else {
            (None, None)
        };
        let steps = plan.devices.get(device.0 as usize).and_then(|device| DeviceSteps::of(&plan, device).ok());
        let keeper = steps.and_then(|steps| steps.hand_over().map(|over| over.to));
        let asked = keeper.and_then(|keeper| peers.get(keeper.0 as usize));
        let (remote, carried) = asked.map(|keeper| asking(&keeper.device, epoch, link)).unzip();
        Ok(Self {
            epoch,
            plan_json,
            limits: FrameLimits::of(&plan),
            plan,
            device,
            peers,
            results: ResultsHub::default(),
            holder: Arc::new(Holder::new(gateway)),
            ended: CancellationToken::new(),
            cause: OnceLock::new(),
            to_successor,
            outgoing: Mutex::new(frames),
            keeper,
            asking: Mutex::new((remote, carried)),
            askers: Mutex::default(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            staying: AtomicBool::new(false),
            verify,
            verifying: AtomicBool::new(false),
            predecessor_joined: AtomicBool::new(false),
            last_pass: AtomicU64::new(0),
            in_hand: AtomicU64::new(0),
            last_finished: Mutex::default(),
            finished: Notify::new(),
        })
    }

    /// This device's name.
    pub(crate) fn name(&self) -> &str {
        self.peer(self.device).map_or("", |peer| &peer.device)
    }

    /// The successor on the ring.
    pub(crate) fn successor(&self) -> Option<&Peer> {
        self.peer(self.plan.successor(self.device))
    }

    /// The name of the predecessor on the ring.
    pub(crate) fn predecessor(&self) -> &str {
        let devices = self.plan.devices.len() as u32;
        let before = (self.device.0 + devices - 1) % devices.max(1);
        self.peer(DeviceIndex(before)).map_or("", |peer| &peer.device)
    }

    fn peer(&self, device: DeviceIndex) -> Option<&Peer> {
        self.peers.get(device.0 as usize)
    }

    /// Whether this device holds the head.
    pub(crate) fn is_head(&self) -> bool {
        self.device == self.plan.head
    }

    /// The queue to the successor.
    pub(crate) const fn to_successor(&self) -> Option<&FrameQueue> {
        self.to_successor.as_ref()
    }

    /// What the plan reserves here for KV pages of other devices.
    pub(crate) fn lent(&self) -> Bytes {
        self.plan.devices.get(self.device.0 as usize).map_or(Bytes::ZERO, |device| device.memory.lent)
    }

    /// The device that keeps KV pages for this one.
    pub(crate) fn keeper(&self) -> Option<&Peer> {
        self.keeper.and_then(|keeper| self.peer(keeper))
    }

    /// The keeper for the engine; once.
    pub(crate) fn take_keeper(&self) -> Option<RemoteKeeper> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).0.take()
    }

    /// Its orders for the transport; once.
    pub(crate) fn take_asking(&self) -> Option<Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }

    /// Claims the one place for the stream of a device whose pages are kept here; false when it is taken.
    pub(crate) fn admit_asker(&self, asker: DeviceIndex) -> bool {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner).insert(asker)
    }

    /// The frames for the transport; once.
    pub(crate) fn take_outgoing(&self) -> Option<OutgoingFrames> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the epoch; the first cause stays.
    pub(crate) fn end(&self, cause: RingFault) {
        if self.cause.set(cause).is_ok() {
            self.ended.cancel();
            // Nobody will carry what the compute thread may be waiting for.
            drop(self.take_asking());
        }
    }

    /// Whether the epoch is over.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Why the epoch ended, if it did.
    pub(crate) fn cause(&self) -> Option<&RingFault> {
        self.cause.get()
    }

    /// Loaded and joined.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether loaded and joined.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// New passes are refused from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether new passes are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The gateway leaves when its answers have ended, and needs this device until then.
    pub(crate) fn stay(&self) {
        self.staying.store(true, Ordering::Release);
    }

    /// Whether the gateway leaves, and has not let go yet.
    pub(crate) fn is_staying(&self) -> bool {
        self.staying.load(Ordering::Acquire) && !self.is_over() && !self.is_draining()
    }

    /// Claims the one place for the predecessor's stream; false when it is taken.
    pub(crate) fn admit_predecessor(&self) -> bool {
        !self.predecessor_joined.swap(true, Ordering::AcqRel)
    }

    /// Counts a pass from the gateway; the number expected where `pass` is out of order.
    pub(crate) fn follow(&self, pass: u64) -> Result<(), u64> {
        let order = Ordering::AcqRel;
        let last = pass.wrapping_sub(1);
        let counted = self.last_pass.compare_exchange(last, pass, order, Ordering::Acquire);
        counted.map(|_| ()).map_err(|found| found + 1)
    }

    /// A pass has come to this device for the first time.
    pub(crate) fn pass_began(&self) {
        self.in_hand.fetch_add(1, Ordering::AcqRel);
    }

    /// A pass has left this device for the last time.
    pub(crate) fn pass_finished(&self) {
        let mut last = self.last_finished.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *last = Some((now, last.map_or(Duration::ZERO, |(before, _)| now - before)));
        drop(last);
        self.in_hand.fetch_sub(1, Ordering::AcqRel);
        self.finished.notify_waiters();
    }

    /// Whether passes come: one is here, or the next may be on its way. That of a slow ring is with other devices for longer.
    pub(crate) fn is_used(&self, quiet: Duration) -> bool {
        /// Slower than any ring that somebody waits for.
        const SLOWEST: Duration = Duration::from_secs(60);
        let last = *self.last_finished.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = last.is_some_and(|(last, apart)| last.elapsed() < (3 * apart.min(SLOWEST)).max(quiet));
        !self.is_over() && !self.is_draining() && (lately || self.in_hand.load(Ordering::Acquire) > 0)
    }

    /// Waits until no pass is between its first and its last visit here.
    pub(crate) async fn settled(&self) {
        loop {
            let finished = self.finished.notified();
            if self.in_hand.load(Ordering::Acquire) == 0 {
                return;
            }
            finished.await;
        }
    }
}
