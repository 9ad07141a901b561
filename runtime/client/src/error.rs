//! Why a server gave no answer.

use std::io;

use thiserror::Error;

/// Why a server gave no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// An address that names no server.
    #[error("{0}")]
    Address(String),
    /// Nobody is there.
    #[error("no server answers at {url}")]
    Away {
        /// Where.
        url: String,
        /// What became of the try.
        #[source]
        source: io::Error,
    },
    /// Somebody is there, who may be somebody else.
    #[error("the certificate of {url} is not trusted: {reason}")]
    Stranger {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection ended before the answer did.
    #[error("the answer of {url} broke off: {reason}")]
    BrokeOff {
        /// Where.
        url: String,
        /// How.
        reason: String,
    },
    /// Somebody is there, and speaks of other things.
    #[error("{url} {what}: is it a model server?")]
    NoModelServer {
        /// Where.
        url: String,
        /// What it does instead.
        what: String,
    },
    /// The server is there and says no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's word for it, by which a program decides.
        code: Option<String>,
        /// The server's words, for people.
        message: String,
        /// Seconds after which to come back, where the server says so.
        retry_after: Option<u64>,
    },
}
