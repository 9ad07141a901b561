//! LimeDeployment: the wish.

// KubeSchema writes a second copy of the struct into a function.
#![allow(unreachable_pub, clippy::duplicated_attributes)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    endpoint::{Endpoint, Transport},
    failure::Failure,
    model::Model,
    nodes::{Nodes, Offload},
    placement::Placement,
    prefix_cache::PrefixCache,
    rules,
    serving::{Arithmetic, Objective, Serving},
    speculation::Speculation,
    status::LimeDeploymentStatus,
    template::Template,
};

/// What to serve and how. Only `model.source` is required.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lime.dev",
    version = "v1alpha1",
    kind = "LimeDeployment",
    plural = "limedeployments",
    singular = "limedeployment",
    shortname = "limed",
    category = "lime",
    namespaced,
    status = "LimeDeploymentStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')").message(rules::NAME),
    doc = "A LimeDeployment serves one large language model from several small nodes. Only spec.model.source is required.",
    printcolumn(
        name = "Model",
        type_ = "string",
        json_path = ".spec.model.source",
        description = "Where the model comes from"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether requests are answered"
    ),
    printcolumn(
        name = "Shards",
        type_ = "string",
        json_path = ".status.shardsReady",
        description = "Shards ready, of shards planned"
    ),
    printcolumn(
        name = "TPOT(ms)",
        type_ = "string",
        json_path = ".status.performance.measured.timePerToken",
        description = "Measured time per token"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is, or is not, ready"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoint.url",
        description = "Where to send requests",
        priority = "1"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".status.nodes",
        description = "Nodes in the current plan",
        priority = "1"
    ),
    printcolumn(
        name = "Offloaded",
        type_ = "string",
        json_path = ".status.offloaded",
        description = "Share of the weights that is read from disk for each token",
        priority = "1"
    ),
    printcolumn(
        name = "Predicted(ms)",
        type_ = "string",
        json_path = ".status.performance.predicted.timePerToken",
        description = "Time per token that the plan predicts",
        priority = "1"
    ),
    printcolumn(
        name = "Plan",
        type_ = "string",
        json_path = ".status.currentPlan",
        description = "The LimePlan in force",
        priority = "1"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "The same, as a sentence",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct LimeDeploymentSpec {
    /// The model to serve.
    #[x_kube(validation = Rule::new("!has(self.revision) || self.source.startsWith('hf://')").message(rules::REVISION))]
    #[x_kube(validation = Rule::new("!has(self.tokenSecretRef) || self.source.startsWith('hf://') || self.source.startsWith('http')").message(rules::TOKEN))]
    pub model: Model,

    /// What clients may ask for at once.
    #[serde(default)]
    pub serving: Serving,

    /// The speed that is wanted. A plan that misses it is reported as such, not refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,

    /// How sums are formed. Exact: the same tokens, bit for bit, on every CPU and over every plan. Candle: candle's own operations, the
    /// way to GPUs; every block and the whole KV cache stay in memory, and only like devices give the same tokens.
    #[serde(default)]
    pub arithmetic: Arithmetic,

    /// Tokens that are guessed ahead. With Exact arithmetic alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<Speculation>,

    /// The nodes that may take part.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!has(self.maxCount) || self.maxCount >= self.minCount").message(rules::COUNTS))]
    #[x_kube(validation = Rule::new(rules::MEMORY_RESERVE.0).message(rules::MEMORY_RESERVE.1))]
    pub nodes: Nodes,

    /// Whether weights may be read from the nodes' disks while serving.
    #[serde(default)]
    #[x_kube(validation = Rule::new(rules::MAX_DISK.0).message(rules::MAX_DISK.1))]
    pub offload: Offload,

    /// When plans take effect, and what makes for a new one.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!has(self.approvedPlan) || self.approval == 'Manual'").message(rules::APPROVED))]
    pub placement: Placement,

    /// What is kept of requests for those that begin alike.
    #[serde(default)]
    #[x_kube(validation = Rule::new(rules::PREFIX_DISK.0).message(rules::PREFIX_DISK.1))]
    pub prefix_cache: PrefixCache,

    /// How failures are borne.
    #[serde(default)]
    pub failure: Failure,

    /// Where clients find the model.
    #[serde(default)]
    pub endpoint: Endpoint,

    /// How the nodes talk to one another.
    #[serde(default)]
    pub transport: Transport,

    /// What pods of workers and gateway have besides: tolerations, environment, volumes, labels and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// True frees the nodes' memory and keeps the weights on disk and the plan; false serves again.
    #[serde(default)]
    pub suspend: bool,

    /// 1 serves; 0 puts the model to sleep, as `suspend` does. For `kubectl scale` and autoscalers: it is how many rings there are,
    /// not how many nodes.
    #[serde(default = "LimeDeploymentSpec::default_replicas")]
    #[schemars(range(min = 0, max = 1))]
    pub replicas: i32,
}

impl LimeDeploymentSpec {
    fn default_replicas() -> i32 {
        1
    }

    /// Whether nothing is to run: the nodes' memory is free, weights and plan are kept.
    pub fn asleep(&self) -> bool {
        self.suspend || self.replicas == 0
    }
}
