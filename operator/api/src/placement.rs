//! spec.placement: when plans take effect, and what makes for a new one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When plans take effect, and what makes for a new one.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Automatic: a plan takes effect as soon as it is made. Manual: nothing runs before `approvedPlan` names it.
    #[serde(default)]
    pub approval: Approval,

    /// The LimePlan that may run, with `approval: Manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub approved_plan: Option<String>,

    /// What makes for a new plan, and how often at most.
    #[serde(default)]
    pub replan: Replan,
}

/// Whether plans need a person's word: Automatic (no) or Manual (yes).
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// Plans take effect at once.
    #[default]
    Automatic,
    /// Plans wait until `approvedPlan` names them.
    Manual,
}

/// What makes for a new plan, and how often at most.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replan {
    /// When a node of the plan is lost. Automatic: plan anew on the others. Never: wait for the node.
    #[serde(default)]
    pub on_node_loss: Reaction,

    /// When a node's free memory falls under what the plan needs. Automatic: plan anew. Never: report it only.
    #[serde(default)]
    pub on_memory_pressure: Reaction,

    /// How much faster a new plan must be before it replaces one that works, in percent.
    #[serde(default = "Replan::default_min_improvement_percent")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_improvement_percent: i32,

    /// How long a change must last before it makes for a new plan, in seconds.
    #[serde(default = "Replan::default_stabilization_seconds")]
    #[schemars(range(min = 0, max = 86_400))]
    pub stabilization_seconds: i32,

    /// Most replans in an hour; a lost node is always planned around.
    #[serde(default = "Replan::default_max_per_hour")]
    #[schemars(range(min = 0, max = 3600))]
    pub max_per_hour: i32,
}

impl Replan {
    fn default_min_improvement_percent() -> i32 {
        15
    }

    fn default_stabilization_seconds() -> i32 {
        120
    }

    fn default_max_per_hour() -> i32 {
        4
    }
}

impl Default for Replan {
    fn default() -> Self {
        Self {
            on_node_loss: Reaction::default(),
            on_memory_pressure: Reaction::default(),
            min_improvement_percent: Self::default_min_improvement_percent(),
            stabilization_seconds: Self::default_stabilization_seconds(),
            max_per_hour: Self::default_max_per_hour(),
        }
    }
}

/// What follows from a change: Automatic (a new plan) or Never (a report only).
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reaction {
    /// A new plan.
    #[default]
    Automatic,
    /// A report in the status, nothing else.
    Never,
}
