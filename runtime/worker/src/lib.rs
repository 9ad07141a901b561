//! One device of the ring: it holds its blocks, computes its layers and passes activations on.
//!
//! A worker is bare until it is configured with a plan and an epoch. Two threads: one runs the gRPC services
//! ([`lime_ring`]) and carries messages, the other owns the engine and computes, strictly in order of arrival. A newer
//! epoch ends everything of the older one; weights stay when the plan is the same.
//!
//! A worker, asked how it is:
//!
//! ```
//! use lime_ring::{Peer, Transport};
//! use lime_worker::{WorkerConfig, start};
//!
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # runtime.block_on(async {
//! let config = WorkerConfig::new("ada", std::path::PathBuf::from("/models/bard"));
//! let worker = start(config, ([127, 0, 0, 1], 0).into()).await?;
//! let peer = Peer { device: "ada".into(), uri: format!("http://{}", worker.addr()) };
//! assert_eq!(lime_ring::status(&Transport::Plaintext, &peer).await?.phase, "idle");
//! worker.stop().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assignment;
mod blocks;
mod command;
pub mod compute;
mod compute_thread;
mod config;
mod counters;
mod disk_counters;
mod ending;
mod engine;
mod error;
mod failure;
pub mod fake;
mod fault_kind;
mod figures;
mod handle;
mod health;
mod holder;
mod join;
mod keeper;
mod mending;
mod page_disk;
mod pass;
mod pressure;
mod results;
mod service;
mod session;
mod start;
mod state;
mod take_up;
mod traces;
mod vitals;

pub use config::{DiskShape, STUCK_AFTER, WorkerConfig};
pub use error::WorkerError;
pub use failure::Failure;
pub use handle::{WorkerHandle, start_with};
pub use lime_engine::VerifyReads;
pub use start::start;
