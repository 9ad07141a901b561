//! The contract: what planner, workers, gateway, store and operator all speak. Who solves, runs or serves is of no concern here.
//!
//! Data and the pure functions that follow from it: what a model is made of, what a node has, what is wished for, who holds
//! what, how much memory that takes, which way an activation goes. No clock, no I/O, no Kubernetes, no tensor library.
//!
//! ```
//! use lime_plan::{Bytes, Dtype, Goal, MemoryModel, ModelCard};
//!
//! let card = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cards/ten-layers.json"))?;
//! let card: ModelCard = serde_json::from_slice(&card)?;
//! let goal = Goal::sporadic(&card, 2 * 64);
//! goal.check(&card)?;
//!
//! // One formula for both sides: the planner counts with it, and the engine allocates by it.
//! let memory = MemoryModel { card: &card, serving: goal.serving, kv: goal.kv, residual: Dtype::F32 };
//! assert_eq!(memory.pages_per_slot(), 2);
//! assert_eq!(memory.kv(card.layers), memory.page_bytes(1) * 2 * u64::from(card.layers));
//! assert!(card.weight_bytes() > Bytes::mib(100));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arithmetic;
mod belief;
mod block;
mod brief;
mod card;
mod device_memory;
mod device_plan;
mod device_steps;
mod dtype;
mod encoding;
mod features;
mod fleet_file;
mod flight;
mod format;
mod goal;
mod hub_model;
mod in_force;
mod memory;
mod outlook;
mod page_name;
mod placement;
mod plan;
mod plan_draft;
mod plan_error;
mod plan_rules;
mod plausible;
mod profile;
mod quantity;
mod route;
mod rows;
mod serving_limits;
mod step;
mod steps_in_force;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token_set;
mod units;

pub use arithmetic::Arithmetic;
pub use belief::{CardError, Limit, Unbelievable};
pub use block::{Block, BlockRange};
pub use brief::{BriefCard, BriefError, Inspection};
pub use card::{Architecture, BlockBytes, ModelCard};
pub use device_memory::DeviceMemory;
pub use device_plan::DevicePlan;
pub use device_steps::{DeviceSteps, HandOver, StreamStep};
pub use dtype::Dtype;
pub use encoding::Encoding;
pub use features::{Mixture, ModelFeatures};
pub use fleet_file::{
    DEFAULT_OVERHEAD, FleetError, FleetFile, FormatEntry, LinkEntries, LinkEntry, NodeEntry, PairEntry,
};
pub use flight::{MOST_PROMPT_PASSES, prompt_passes};
pub use format::{Format, Unit};
pub use goal::{Goal, GoalError, Offload};
pub use hub_model::{GgufPick, HubModel, HubModelError};
pub use in_force::{PlanInForce, PlanInForceError, TokenBasis};
pub use memory::{ActivationBytes, KV_PAGE_TOKENS, MemoryModel};
pub use outlook::{Alternative, ContextPoint, DeviceShare, Nanos, Objective, Outlook, Prediction, RejectedNode};
pub use page_name::{PageName, PageNameError};
pub use placement::{PlacedBlock, Residency};
pub use plan::Plan;
pub use plan_draft::{PLAN_VERSION, PlanDraft};
pub use plan_error::{PlanError, PlanReadError};
pub use profile::{Fleet, FormatSpeed, Link, NodeProfile};
pub use quantity::{Quantity, QuantityError, QuantityKind};
pub use route::{Hop, Stage};
pub use rows::{BatchRows, KeptRows};
pub use serving_limits::ServingLimits;
pub use step::{Relief, Step};
pub use steps_in_force::StepsInForce;
pub use token_set::TokenSet;
pub use units::{Bytes, DeviceIndex, LayerIndex, SegmentIndex};
