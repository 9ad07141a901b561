//! The planner: from what a model needs and what nodes have to a [`lime_plan::Plan`] that says who holds what.
//!
//! The solver and the simulator alone. This crate is pure: it knows no clock, no I/O, no Kubernetes and no tensor library, every
//! function is data in, data out, and the same inputs give the same bytes.
//!
//! ```
//! use lime_plan::{Bytes, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile};
//! use lime_planner::{Refusal, plan};
//!
//! let card = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cards/ten-layers.json"))?;
//! let card: ModelCard = serde_json::from_slice(&card)?;
//! let node = |name: &str, memory| NodeProfile {
//!     name: name.into(), memory, overhead: Bytes::mib(16), memory_bandwidth: 20_000_000_000, compact_bandwidth: None,
//!     throughput: 100_000_000_000, disk_bandwidth: None, block_latency: Nanos(20_000),
//!     formats: Default::default(),
//! };
//! let link = Link { bandwidth: 125_000_000, latency: Nanos(300_000) };
//! let goal = Goal::sporadic(&card, 256);
//!
//! // Neither of two holds the model, and nothing can stream: together they do.
//! let two = Fleet::uniform(vec![node("ada", Bytes::mib(96)), node("bob", Bytes::mib(96))], link);
//! assert_eq!(plan(&card, &two, &goal)?.devices.len(), 2);
//! let one = Fleet::uniform(vec![node("ada", Bytes::mib(96))], link);
//! assert!(matches!(plan(&card, &one, &goal), Err(Refusal::Infeasible { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compare;
mod cost;
mod layout;
mod online;
mod period;
mod planning;
mod predict;
#[cfg(test)]
mod properties;
mod refusal;
mod requests;
mod run;
mod schedule;
mod search;
#[cfg(test)]
mod stricter_wishes;
mod suggest;
mod svg;
mod timeline;

pub use compare::{Comparison, Strategy, compare};
pub use online::{Adaptation, adaptations};
pub use refusal::{MissingMemory, Refusal, Suggestion};
pub use requests::{RequestTime, request_time};
pub use suggest::{plan, plan_or_suggest};
pub use timeline::{Activity, Interval, Lane, Timeline, timeline};
