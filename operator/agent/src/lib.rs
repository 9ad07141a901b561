//! The agent: one on every node. It measures the node and keeps the LimeNodeProfile of the same name.
//!
//! The heartbeat is a Lease, renewed every ten seconds, since Leases are what a small datastore bears best. The profile's
//! status is written only when a value moved by a tenth or after ten minutes ([`change`]).
//!
//! What decides is pure ([`carried`], [`change`], [`due`], [`memory`], [`peers`], [`status`]); what touches the machine is in [`local`] and
//! `lime-profiler`; what touches the cluster is in [`cluster`].
//!
//! ```
//! use std::time::Duration;
//! use lime_agent::due::{Measured, due};
//!
//! let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
//! // A busy machine is waited for, for an hour here; what was measured in a quiet moment stays.
//! assert!(!due(None, minute, 0.9, hour));
//! assert!(due(None, hour, 0.9, hour));
//! assert!(!due(Some(Measured { age: minute, busy: false }), hour, 0.0, hour));
//! ```

pub mod agent;
pub mod carried;
pub mod change;
pub mod cluster;
pub mod due;
pub mod figures;
pub mod frugal;
pub mod local;
pub mod memory;
pub mod peers;
pub mod status;
