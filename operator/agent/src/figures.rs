//! What is known of a node, before it becomes a status.

use std::collections::BTreeMap;
use std::io;

use k8s_openapi::jiff::Timestamp;
use lime_profiler::{Format, FormatSpeed};

use crate::memory::Memory;

/// The figures of a node. What could not be measured is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Memory now; the least in the last hour stands beside it.
    pub memory: Option<Memory>,
    /// The least memory that was available in the last hour, in bytes.
    pub low_water_bytes: Option<u64>,
    /// What the machine can do.
    pub machine: Machine,
    /// The disk under the weight store.
    pub disk: Disk,
    /// The way to each other node, by its name.
    pub links: BTreeMap<String, Link>,
}

/// What the processor and its memory can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Cores that may compute.
    pub cores: u32,
    /// Bytes per second at which compute reads memory.
    pub memory_bytes_per_second: Option<u64>,
    /// Bytes per second of compact weights that compute gets through.
    pub compact_bytes_per_second: Option<u64>,
    /// Floating-point operations per second in matrix products of many rows.
    pub operations_per_second: Option<u64>,
    /// The same two with weights of single formats.
    pub formats: BTreeMap<Format, FormatSpeed>,
    /// Whether others used the machine while it was measured.
    pub busy: bool,
}

/// The disk under the weight store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that the file system has.
    pub total_bytes: Option<u64>,
    /// Bytes that are free to us.
    pub free_bytes: Option<u64>,
    /// Bytes per second in large sequential reads past the page cache.
    pub read_bytes_per_second: Option<u64>,
    /// Whether others used the machine while it was measured.
    pub busy: bool,
    /// Why the sizes or the speed are not known, as a sentence.
    pub problem: Option<String>,
}

/// The way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bits per second.
    pub bits_per_second: u64,
    /// There and back, in microseconds.
    pub round_trip_microseconds: u64,
    /// When it was measured.
    pub measured_at: Option<Timestamp>,
}

/// Measures the machine. [`crate::local::Local`] is the real one.
pub trait Probe {
    /// Memory now. Cheap: asked every few seconds.
    ///
    /// # Errors
    /// If the system does not tell.
    fn memory(&mut self) -> io::Result<Memory>;

    /// How busy the machine has been since the last call, from 0 to 1: the share of the processor that worked, or, where processes
    /// wait for the disk, what stands for that.
    ///
    /// # Errors
    /// If the system does not tell.
    fn busy_share(&mut self) -> io::Result<f64>;

    /// Sizes of the disk under the weight store. Cheap.
    fn disk_space(&mut self) -> Disk;

    /// How many cores may compute.
    fn cores(&self) -> u32;

    /// What takes seconds of processor and disk. It runs on a thread of its own, while the heartbeat goes on.
    fn long(&self) -> Box<dyn FnOnce() -> Long + Send>;
}

/// How fast the processor computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Bytes per second at which compute reads memory.
    pub memory: u64,
    /// The same of compact weights.
    pub compact: Option<u64>,
    /// Floating-point operations per second in matrix products of many rows.
    pub operations: u64,
    /// The same with weights of single formats.
    pub formats: BTreeMap<Format, FormatSpeed>,
}

/// What is measured seldom, since it takes the machine's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Long {
    /// The processor's speed.
    pub compute: Result<Speed, String>,
    /// Bytes per second that the weight store reads.
    pub disk: Result<u64, String>,
}
