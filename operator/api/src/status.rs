//! status: what is, as far as the operator knows.

// KubeSchema writes a second copy of the struct into a function.
#![allow(unreachable_pub)]

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is, as far as the operator knows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimeDeploymentStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The namespace of the operator that looks after this deployment. Others leave it alone while that one lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,

    /// Accepted, Profiled, Planned, Approved, WeightsReady, ShardsReady, Ready, Degraded and Replanning, each with a reason
    /// that a person can act on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// What is known of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,

    /// The LimePlan in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_plan: Option<String>,

    /// A LimePlan that awaits approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed_plan: Option<String>,

    /// Nodes in the current plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,

    /// Shards ready, of shards planned, such as `3/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_ready: Option<String>,

    /// Share of the weights that is read from disk for each token, such as `40%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offloaded: Option<String>,

    /// 1 while the model is served or on its way there, 0 while it sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// The labels of the gateway's pod, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// Each node's part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    pub shards: Vec<ShardStatus>,

    /// Speed, as the plan predicts it and as it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceStatus>,

    /// Where to send requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointStatus>,

    /// What failed since the deployment was last well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailureStatus>,

    /// When the plan last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_replan: Option<Time>,

    /// When plans replaced one another in the hour before the last time, for `spec.placement.replan.maxPerHour`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub recent_replans: Vec<Time>,

    /// Links between two nodes that are lost: no plan uses them until the agents have measured them anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["one".into(), "other".into()]))]
    pub lost_links: Vec<LostLink>,
}

/// A link between two nodes over which a ring could not go on, though both were there.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostLink {
    /// The end whose name comes first.
    pub one: String,
    /// The other end.
    pub other: String,
    /// Since when no plan uses it.
    pub since: Time,
    /// When the agents of the two had measured it by then, in their own words: it is well once they have measured it since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Time>,
}

/// What is known of the model.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The commit in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The family, such as `llama`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Number of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<i32>,
    /// Number of parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<i64>,
    /// Bytes of all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<i64>,
    /// The type that the weights are stored in, such as `bf16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
}

/// One node's part of the model.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// The node.
    pub node: String,
    /// Its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its layers, one range per segment, such as `0-3,12-15`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<String>,
    /// Share of its weights that is read from disk for each token, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offloaded_percent: Option<i32>,
    /// Share of its weights that has arrived, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_percent: Option<i32>,
    /// What it is doing: Pending, Downloading, Loading, Ready, Crashed or Lost.
    #[serde(default)]
    pub state: ShardState,
    /// How often it was restarted.
    #[serde(default)]
    pub restarts: i32,
}

/// What a shard is doing: Pending, Downloading, Loading, Ready, Crashed or Lost.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardState {
    /// Its pod is not running yet.
    #[default]
    Pending,
    /// It fetches weights.
    Downloading,
    /// It reads weights into memory.
    Loading,
    /// It takes part.
    Ready,
    /// Its process ended.
    Crashed,
    /// Its node is silent.
    Lost,
}

/// Speed, as the plan predicts it and as it is measured.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerformanceStatus {
    /// What the plan says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<PerformanceFigures>,
    /// What clients got lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<PerformanceFigures>,
}

/// Figures of speed.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerformanceFigures {
    /// From a request's arrival to its first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token_milliseconds: Option<i32>,
    /// Between two tokens of an answer, in milliseconds, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_per_token_milliseconds: Option<i32>,
    /// The same in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_per_token_microseconds: Option<i64>,
    /// The same in milliseconds for people, such as `3.4` or `412`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_per_token: Option<String>,
}

/// Where to send requests.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// The base of the OpenAI-compatible API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What failed since the deployment was last well.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// The first failure's message: usually the cause of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_message: Option<String>,
    /// The last failure's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
    /// When the last failure was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// Restarts used up, of `spec.failure.maxRestarts`.
    #[serde(default)]
    pub restarts: i32,
}

/// The conditions of a LimeDeployment. All are set at the first visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The model exists, may be read and is of a known family.
    Accepted,
    /// Enough nodes have fresh profiles.
    Profiled,
    /// There is a plan.
    Planned,
    /// The plan may run.
    Approved,
    /// Every shard has its weights on disk.
    WeightsReady,
    /// Every shard runs.
    ShardsReady,
    /// Requests are answered.
    Ready,
    /// Requests are answered, but not as they should be.
    Degraded,
    /// A new plan is being put in force.
    Replanning,
}

impl ConditionType {
    /// Every condition, in the order in which they come true.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Profiled,
        Self::Planned,
        Self::Approved,
        Self::WeightsReady,
        Self::ShardsReady,
        Self::Ready,
        Self::Degraded,
        Self::Replanning,
    ];
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
