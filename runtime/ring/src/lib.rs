//! The ring: the wire between workers, and between the gateway and the ring.
//!
//! A worker sends each activation to its successor over one gRPC stream per epoch ([`proto::ring_server::Ring`]); the
//! gateway drives the ring with a [`RingDriver`]. Whatever arrives is foreign until [`FrameLimits`] has checked it.
//!
//! ```
//! use std::time::Duration;
//! use lime_ring::{LinkSchedule, LinkShape};
//!
//! // What a row of 8,192 f32 costs on 100 Mbit/s with 0.3 ms one way: the planner counts so, and tests play such links.
//! let shape = LinkShape { bandwidth_bits: 100_000_000, latency: Duration::from_micros(300) };
//! let mut link = LinkSchedule::new(shape);
//! let arrives = link.arrival(Duration::ZERO, 4 * 8192);
//! assert_eq!(arrives.as_micros(), 2621 + 300);
//! ```

mod check;
mod checksum;
mod connect;
mod connect_error;
mod driver;
mod fault;
mod figures;
mod handshakes;
mod incoming;
mod innermost;
mod limits;
mod outgoing;
#[allow(missing_docs, clippy::all)]
pub mod proto;
mod rows;
mod security;
mod settings;
mod shape;
mod token_set;
mod transport;
mod version;

pub use check::FrameError;
pub use checksum::{Checksummed, NOT_AS_SENT};
pub use connect::{CONNECTING, connect, connect_until};
pub use connect_error::ConnectError;
pub use driver::{
    Demands, DriverError, PassSubmitter, Restorable, ResultStream, RingDriver, RingTopology, Verified, drain, probe,
    status, stay,
};
pub use fault::{ASKER_KEY, EPOCH_KEY, FaultKind, GATEWAY_KEY, RingFault, asker_of, epoch_of, gateway_of, wrong_epoch};
pub use incoming::{Connection, Incoming, incoming};
pub use limits::{FrameLimits, KeepLimits, MOST_DRAFTS, MOST_SCORED};
pub use outgoing::{FrameQueue, LinkCounters, OutgoingFrames, QueueFull, outgoing};
pub use proto::Peer;
pub use security::{RingSecurity, SERVER_NAME, SecurityError, ServerCertificate};
pub use settings::{CONTROL_MESSAGE_BYTES, JOIN_DEADLINE, LAST_EPOCH, LONGEST_PROBE_REPLY, MAX_IN_FLIGHT, server};
pub use shape::{LinkSchedule, LinkShape, ShapedLink};
pub use transport::Transport;
pub use version::{Line, Version, Versions, WIRE};
