//! Why a peer cannot be reached.

use thiserror::Error;

/// A peer that cannot be reached.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address is malformed.
    #[error("{uri:?} is not an address of a worker: {reason}")]
    Uri {
        /// The address given.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("no worker answers at {uri}: {reason}")]
    Unreachable {
        /// The address tried.
        uri: String,
        /// What the last attempt met.
        reason: String,
    },
    /// Somebody answers there, and one of the two does not let the other in.
    #[error("no secure connection to {uri}: {reason}")]
    Refused {
        /// The address tried.
        uri: String,
        /// What the last attempt met.
        reason: String,
    },
}
