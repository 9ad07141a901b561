//! spec.nodes and spec.offload: who may take part, and what may be read from disk.

use k8s_openapi::{apimachinery::pkg::api::resource::Quantity, apimachinery::pkg::apis::meta::v1::LabelSelector};
use lime_plan::Limit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The nodes that may take part.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Labels that a node must have. Without it, every node with a fresh profile is considered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// Fewest nodes that a plan may use.
    #[serde(default = "Nodes::default_min_count")]
    #[schemars(range(min = 1, max = Limit::DEVICES.most))]
    pub min_count: i32,

    /// Most nodes that a plan may use. Default: as many as match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = Limit::DEVICES.most))]
    pub max_count: Option<i32>,

    /// Memory on each node that is left to others, such as `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory_reserve: Option<Quantity>,

    /// The RuntimeClass of the workers' pods, such as `nvidia` on Jetsons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
}

impl Nodes {
    fn default_min_count() -> i32 {
        1
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            selector: None,
            min_count: Self::default_min_count(),
            max_count: None,
            memory_reserve: None,
            runtime_class_name: None,
        }
    }
}

/// Whether weights may be read from the nodes' disks while serving.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offload {
    /// Auto: where memory does not suffice. Never: a model that does not fit into memory is Infeasible. Always: even where it
    /// would fit (to try the disks).
    #[serde(default)]
    pub policy: OffloadPolicy,

    /// Auto: weights are kept compact (0.71 of the bytes, the same numbers) on disk and in memory where that is faster. Raw: as the
    /// model's files have them. Compact: wherever model and nodes allow it.
    #[serde(default)]
    pub encoding: WeightEncoding,

    /// Most bytes that a node keeps on its disk for this model, such as `160Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub max_disk_per_node: Option<Quantity>,
}

/// How weights lie on disk and in memory: Auto, Raw or Compact.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WeightEncoding {
    /// Compact where that is faster.
    #[default]
    Auto,
    /// As the model's files have them.
    Raw,
    /// bf16 matrices in 0.71 of their bytes, expanded as they are multiplied.
    Compact,
}

/// When weights are read from disk for each token: Auto, Never or Always.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OffloadPolicy {
    /// Where memory does not suffice.
    #[default]
    Auto,
    /// Not at all.
    Never,
    /// Even where memory would suffice.
    Always,
}
