//! Why a worker could not start, or did not end well.

use std::{io, net::SocketAddr};

use thiserror::Error;

/// A worker that cannot start or did not end well.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source}; choose another port, or 0 for any free one")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The configuration names kernels that there are not.
    #[error("{0}")]
    Config(String),
    /// No thread or no runtime.
    #[error("the system gives the worker no threads: {0}")]
    Threads(io::Error),
    /// Connections are no longer accepted.
    #[error("the worker can no longer listen: {0}")]
    Serve(tonic::transport::Error),
    /// A thread panicked.
    #[error("the worker's {0} thread panicked; this is a bug")]
    Panicked(&'static str),
}
