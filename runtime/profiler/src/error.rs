//! What can go wrong while measuring.

use std::path::PathBuf;

use thiserror::Error;

/// A measurement that could not be made.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// Neither /proc/meminfo nor a cgroup says how much memory there is.
    #[error("this machine does not say how much memory is free (/proc/meminfo): give memory by hand")]
    Memory,
    /// No memory to measure with.
    #[error("{0}: free some memory, or give memoryBandwidth and throughput by hand")]
    Buffer(#[from] lime_kernels::BufferError),
    /// The disk could not be read or written.
    #[error("{path}: {doing} failed: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Too little room for a file to measure with.
    #[error("{path}: only {written} bytes could be written, too few to measure a disk with: free some space")]
    Full {
        /// The folder.
        path: PathBuf,
        /// Bytes that were written.
        written: u64,
    },
    /// A peer that does not answer.
    #[error("no link to {uri} could be measured: {source}")]
    Peer {
        /// Where it should be.
        uri: String,
        /// What went wrong.
        source: lime_ring::DriverError,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}
