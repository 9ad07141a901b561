//! The operator of LIME: from LimeDeployments and node profiles to plans, pods and status.
//!
//! A reconcile is a row of named steps: [`observe`] gathers what is, [`decide`] makes of it what should be (pure; it knows
//! no client and no clock), [`apply`] makes the difference, and the status is written once, if it changed. What decides:
//! [`wish`] checks the spec, [`card`] reads the model's facts, [`candidates`] picks nodes, [`planning`] asks the planner,
//! [`triggers`] says whether a new plan is due, [`shards`] and [`failures`] read the pods, [`build`] makes the objects.
//!
//! ```
//! use lime_operator::wish::Wish;
//!
//! let deployment = serde_json::from_value(serde_json::json!({
//!     "metadata": { "name": "bard", "namespace": "llm", "uid": "1" },
//!     "spec": { "model": { "source": "hf://org/name" } },
//! }))?;
//! // What a spec cannot mean is said, all of it at once.
//! let wish = Wish::check(&deployment).map_err(|faults| faults.join("; "))?;
//! assert!(wish.is_fetched());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod apply;
pub mod build;
pub mod candidates;
pub mod card;
pub mod certificates;
pub mod client;
pub mod conditions;
pub mod context;
pub mod decide;
pub mod failures;
pub mod fleet_figures;
pub mod gateways;
pub mod heartbeats;
pub mod held;
pub mod http;
pub mod leader;
pub mod ledger;
pub mod links;
mod metric_families;
pub mod metrics;
pub mod missing;
pub mod missing_events;
pub mod names;
pub mod node_affinity;
pub mod observe;
pub mod owner;
pub mod planning;
pub mod probe;
pub mod pulse;
pub mod reconcile;
pub mod requests;
pub mod settings;
pub mod shards;
pub mod snapshot;
#[cfg(test)]
mod testing;
pub mod tolerations;
pub mod triggers;
pub mod wish;
pub mod world;

pub use metric_families::metric_families;
