//! The gateway's side of a ring: configure every worker, send passes in, take results out.

mod configure;
mod control;
mod error;
mod passes;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use lime_plan::PageName;

pub use control::{drain, probe, status, stay};
pub use error::DriverError;
pub use passes::{PassSubmitter, ResultStream};

use crate::{
    limits::FrameLimits,
    proto::{ConfigureProgress, Pass, PassResult, Peer, Rows},
    transport::Transport,
};

/// A ring as its driver knows it. The plan itself is opaque here: workers read it.
#[derive(Clone, Debug)]
pub struct RingTopology {
    /// The plan, as JSON.
    pub plan_json: Bytes,
    /// Every device of the plan, in ring order; the first holds the embedding.
    pub peers: Vec<Peer>,
    /// Which of them holds the head.
    pub head: usize,
    /// The plan's limits.
    pub limits: FrameLimits,
    /// How the ring's members speak to one another.
    pub transport: Transport,
}

/// What a configuration asks for beside the plan and the epoch.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Every worker compares what it uses with its digests, and mends it, before it is ready.
    pub verify: bool,
    /// Workers whose epoch is known and to be given up, be it higher or lower.
    pub replaces: BTreeMap<String, u64>,
    /// The name of who asks: the ring is that gateway's until it lets go. Without one it is nobody's.
    pub gateway: Option<String>,
}

/// What comparing found, on all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blocks that were compared.
    pub compared: u32,
    /// Of them, blocks that were damaged and are whole again.
    pub mended: u32,
}

/// Kept pages that a device can restore, as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restorable {
    /// Their names, the one that goes last first.
    pub names: Vec<PageName>,
    /// How many pages its disk has room for.
    pub disk_pages: u32,
}

impl Restorable {
    /// More than any device has.
    const MOST: usize = 1 << 17;

    fn hear(&mut self, message: &ConfigureProgress) {
        let room = Self::MOST - self.names.len().min(Self::MOST);
        let names = message.names.chunks_exact(PageName::BYTES).filter_map(|name| PageName::try_from(name).ok());
        self.names.extend(names.take(room));
        self.disk_pages = self.disk_pages.max(message.disk_pages);
    }
}

/// A ring at one epoch, ready for passes. After an error it is over: configure again with a higher epoch.
#[derive(Debug)]
pub struct RingDriver {
    epoch: u64,
    submitter: PassSubmitter,
    results: ResultStream,
    verified: Verified,
    restorable: Vec<Restorable>,
}

impl RingDriver {
    /// Takes every worker to `epoch` and opens the streams. Workers that do not answer yet are tried for `patience`;
    /// loading may then take as long as it takes, and `progress` hears of it.
    ///
    /// # Errors
    /// The first worker that cannot be reached, refuses or fails, by name.
    pub async fn configure(
        topology: &RingTopology,
        epoch: u64,
        patience: Duration,
        progress: impl FnMut(&Peer, &ConfigureProgress),
    ) -> Result<Self, DriverError> {
        Self::configure_with(topology, epoch, &Demands::default(), patience, progress).await
    }

    /// The same with more to ask for.
    ///
    /// # Errors
    /// As [`Self::configure`].
    pub async fn configure_with(
        topology: &RingTopology,
        epoch: u64,
        demands: &Demands,
        patience: Duration,
        mut progress: impl FnMut(&Peer, &ConfigureProgress),
    ) -> Result<Self, DriverError> {
        let mut verified = Verified::default();
        let mut restorable = vec![Restorable::default(); topology.peers.len()];
        let count = |peer: &Peer, message: &ConfigureProgress| {
            verified.compared = verified.compared.saturating_add(message.compared);
            verified.mended = verified.mended.saturating_add(message.mended);
            let device = topology.peers.iter().position(|other| other.device == peer.device);
            if let Some(found) = device.and_then(|device| restorable.get_mut(device)) {
                found.hear(message);
            }
            progress(peer, message);
        };
        let channels = configure::configure_all(topology, epoch, demands, patience, count).await?;
        let (submitter, results) = passes::open(topology, epoch, &channels).await?;
        Ok(Self { epoch, submitter, results, verified, restorable })
    }

    /// What comparing found, where it was asked for.
    pub const fn verified(&self) -> Verified {
        self.verified
    }

    /// Kept pages that each device can restore, in ring order.
    pub fn take_restorable(&mut self) -> Vec<Restorable> {
        std::mem::take(&mut self.restorable)
    }

    /// The epoch of this ring.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sends a pass; see [`PassSubmitter::submit`].
    ///
    /// # Errors
    /// As [`PassSubmitter::submit`].
    pub async fn submit(&mut self, rows: Vec<Rows>, tokens: Vec<u32>, release: Vec<u32>) -> Result<u64, DriverError> {
        self.submitter.submit(rows, tokens, release).await
    }

    /// Sends a pass that keeps pages, or has some forgotten; see [`PassSubmitter::send`].
    ///
    /// # Errors
    /// As [`PassSubmitter::send`].
    pub async fn send(&mut self, pass: Pass) -> Result<u64, DriverError> {
        self.submitter.send(pass).await
    }

    /// The next result; see [`ResultStream::next`].
    ///
    /// # Errors
    /// As [`ResultStream::next`].
    pub async fn next(&mut self) -> Result<PassResult, DriverError> {
        self.results.next().await
    }

    /// The two ends apart, for two tasks.
    pub fn split(self) -> (PassSubmitter, ResultStream) {
        (self.submitter, self.results)
    }
}
