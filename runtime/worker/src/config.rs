//! What a worker is told when it starts; everything else comes with a plan.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use lime_engine::VerifyReads;
use lime_plan::Bytes;
use lime_ring::{LinkShape, Transport};
use lime_store::Source;

/// Shaping of the disk: one machine plays a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskShape {
    /// Bytes read in a second.
    pub bytes_per_second: u64,
}

/// Long for a read of a disk that spins up, or an answer of a device that keeps pages; passes and loads of any length get on in it.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A worker before it has a plan.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The worker's name in messages and logs; plans name it by its device.
    pub name: String,
    /// Where the model comes from: a folder on this machine, or a server from which this device's blocks are fetched.
    pub model: Source,
    /// Where blocks that a plan streams, or that come from a server, are kept, on this machine's disk. Without it such a plan is
    /// refused.
    pub store: Option<PathBuf>,
    /// What KV pages may take on the disk, beside the blocks; without it none are kept there. It needs a store.
    pub page_disk: Option<Bytes>,
    /// Threads that compute, the driver included.
    pub threads: usize,
    /// Shapes the link to the successor.
    pub link: Option<LinkShape>,
    /// Shapes reads from the disk.
    pub disk: Option<DiskShape>,
    /// How often blocks that stream are compared with their digests.
    pub verify_reads: VerifyReads,
    /// The instruction set of the kernels; the best that the machine has where none is named.
    pub isa: Option<String>,
    /// The GPU on which plans with candle arithmetic run; the CPU where none is named.
    pub gpu: Option<usize>,
    /// How the ring's members speak to one another.
    pub transport: Transport,
    /// Where to say over plain HTTP whether the worker gets on, where anywhere.
    pub health: Option<SocketAddr>,
    /// A compute thread that has not got on with what it does for so long is stuck.
    pub stuck_after: Duration,
}

impl WorkerConfig {
    /// A worker with one thread, in plain text, that keeps nothing on its disk and shapes nothing: a start for who sets what differs.
    pub fn new(name: impl Into<String>, model: impl Into<Source>) -> Self {
        Self {
            name: name.into(),
            model: model.into(),
            store: None,
            page_disk: None,
            threads: 1,
            link: None,
            disk: None,
            verify_reads: VerifyReads::EVERY_USE,
            isa: None,
            gpu: None,
            transport: Transport::Plaintext,
            health: None,
            stuck_after: STUCK_AFTER,
        }
    }
}
