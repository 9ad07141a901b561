//! The planner: from what a model needs and what nodes have to a [`Plan`] that says who holds what.
//!
//! This crate is pure. It knows no clock, no I/O, no Kubernetes and no tensor library: every function is data in, data out,
//! and the same inputs give the same bytes. The types here are the contract between the planner, the workers, the gateway
//! and the operator.

mod brief;
mod card;
mod compare;
mod cost;
mod dtype;
mod encoding;
mod fleet_file;
mod goal;
mod in_force;
mod layout;
mod memory;
mod online;
mod outlook;
mod period;
mod plan;
mod planning;
mod plausible;
mod predict;
mod profile;
#[cfg(test)]
mod properties;
mod proportional;
mod quantity;
mod refusal;
mod route;
mod run;
mod schedule;
mod search;
mod steps;
#[cfg(test)]
mod stricter_wishes;
mod svg;
#[cfg(test)]
mod testing;
mod timeline;
mod units;
mod way;
mod wish;

pub use brief::{BriefCard, BriefError, Inspection};
pub use card::{Architecture, Block, BlockBytes, ModelCard};
pub use compare::{Comparison, Strategy, compare};
pub use dtype::Dtype;
pub use encoding::Encoding;
pub use fleet_file::{DEFAULT_OVERHEAD, FleetError, FleetFile, LinkEntries, LinkEntry, NodeEntry, PairEntry};
pub use goal::{Goal, GoalError, Offload};
pub use in_force::{PlanInForce, PlanInForceError, TokenBasis};
pub use memory::{ActivationBytes, KV_PAGE_TOKENS, MemoryModel};
pub use online::{Adaptation, adaptations};
pub use outlook::{Alternative, ContextPoint, DeviceShare, Nanos, Objective, Outlook, Prediction, RejectedNode};
pub use plan::{
    Arithmetic, DeviceMemory, DevicePlan, PLAN_VERSION, PlacedBlock, Plan, PlanError, Residency, ServingLimits,
};
pub use planning::{plan, plan_or_suggest};
pub use profile::{Fleet, Link, NodeProfile};
pub use proportional::proportional;
pub use quantity::{Quantity, QuantityError, QuantityKind};
pub use refusal::{Refusal, Shortage, Suggestion};
pub use route::{Hop, Stage};
pub use steps::{HandOver, Ladder, Relief, Rung, Step};
pub use timeline::{Activity, Lane, Span, Timeline, timeline};
pub use units::{Bytes, DeviceIndex, Epoch, LayerIndex, LayerRange, SegmentIndex};
pub use way::Way;
pub use wish::{DeviceBudget, Infeasible, PlanRequest};
