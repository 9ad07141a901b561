//! LimePlan: who would hold what, to be read before it runs.

// KubeSchema writes a second copy of the struct into a function.
#![allow(unreachable_pub, clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use lime_plan::Goal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A plan as it was computed. It never changes; another one is made instead.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lime.dev",
    version = "v1alpha1",
    kind = "LimePlan",
    plural = "limeplans",
    singular = "limeplan",
    shortname = "limep",
    category = "lime",
    namespaced,
    status = "LimePlanStatus",
    derive = "PartialEq",
    doc = "A LimePlan says which node holds which layers of a LimeDeployment's model, and how fast that should be. The operator writes it; people read it and, with approval: Manual, name it in spec.placement.approvedPlan.",
    validation = Rule::new("self.spec == oldSelf.spec").message("a LimePlan's spec cannot be changed: the operator makes another one when something changes"),
    printcolumn(
        name = "Deployment",
        type_ = "string",
        json_path = ".spec.deployment",
        description = "The LimeDeployment"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "Proposed, Active, Superseded or Infeasible"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".spec.nodes",
        description = "Nodes that take part"
    ),
    printcolumn(
        name = "Offloaded",
        type_ = "string",
        json_path = ".spec.offloaded",
        description = "Share of the weights that is read from disk for each token"
    ),
    printcolumn(
        name = "TPOT(ms)",
        type_ = "string",
        json_path = ".spec.prediction.timePerToken",
        description = "Predicted time per token"
    ),
    printcolumn(
        name = "TTFT(ms)",
        type_ = "integer",
        json_path = ".spec.prediction.timeToFirstTokenMilliseconds",
        description = "Predicted time to the first token"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct LimePlanSpec {
    /// The LimeDeployment that it is for, in the same namespace.
    pub deployment: String,

    /// The generation of that LimeDeployment.
    #[serde(default)]
    pub deployment_generation: i64,

    /// A digest of everything that the plan was made from: the same digest means the same plan.
    pub input_hash: String,

    /// The digest of the wish alone. A plan for another wish is stale.
    #[serde(default)]
    pub wish_hash: String,

    /// Whether there is a plan at all. If not, `shortfall` says what is missing.
    #[serde(default)]
    pub feasible: bool,

    /// Nodes that take part.
    #[serde(default)]
    pub nodes: i32,

    /// Share of the weights that is read from disk for each token, such as `40%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offloaded: Option<String>,

    /// How many times an activation goes round the ring for a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<i32>,

    /// Each node's part, in ring order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    pub assignments: Vec<Assignment>,

    /// The speed that is expected, and where the time goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<PlanPrediction>,

    /// Wishes that the plan misses, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<String>,

    /// Nodes that take no part, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    pub rejected_nodes: Vec<RejectedNode>,

    /// Plans that were close, the fastest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<PlanAlternative>,

    /// What is missing, where there is no plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<Shortfall>,

    /// The plan as workers and gateway read it (JSON). For machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_000_000))]
    pub document: Option<String>,
}

/// One node's part of a plan.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The node.
    pub node: String,
    /// Its layers, one range per segment, such as `0-3,12-15`; `3a` is the attention of layer 3 alone, `3m` its MLP.
    #[serde(default)]
    pub layers: String,
    /// How many layers that is; one that is cut counts where its attention is.
    #[serde(default)]
    pub layer_count: i32,
    /// Whether it holds the output matrix and samples the tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub head: bool,
    /// Bytes of weights that stay in memory.
    #[serde(default)]
    pub pinned_bytes: i64,
    /// Bytes of weights that are read from disk for each token.
    #[serde(default)]
    pub streamed_bytes: i64,
    /// Bytes of KV cache.
    #[serde(default)]
    pub kv_bytes: i64,
    /// Bytes of memory in all, buffers and overhead included.
    #[serde(default)]
    pub memory_bytes: i64,
    /// Bytes that the node could lend.
    #[serde(default)]
    pub budget_bytes: i64,
}

/// The speed that is expected of a plan, and where the time goes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanPrediction {
    /// Between two tokens of an answer, in milliseconds, rounded up.
    #[serde(default)]
    pub time_per_token_milliseconds: i32,
    /// The same in microseconds.
    #[serde(default)]
    pub time_per_token_microseconds: i64,
    /// The same in milliseconds for people, such as `3.4` or `412`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_per_token: Option<String>,
    /// From a prompt of `promptTokens` to its first token, in milliseconds, rounded up.
    #[serde(default)]
    pub time_to_first_token_milliseconds: i32,
    /// Tokens of the prompt for which that was predicted.
    #[serde(default)]
    pub prompt_tokens: i32,
    /// Tokens of the answers for which `requestMicroseconds` was predicted.
    #[serde(default)]
    pub answer_tokens: i32,
    /// From the prompts of as many requests as are in flight, which come at once, to the ends of their answers: what plans are compared by.
    /// 0 in plans of versions that did not predict it.
    #[serde(default)]
    pub request_microseconds: i64,
    /// Tokens in the KV cache for which the time per token was predicted.
    #[serde(default)]
    pub context_tokens: i32,
    /// Requests in flight for which it was predicted.
    #[serde(default)]
    pub sequences: i32,
    /// No schedule of this plan can beat this, in microseconds per token.
    #[serde(default)]
    pub lower_bound_microseconds: i64,
    /// What limits the time per token.
    #[serde(default)]
    pub binds: String,
    /// What each node does for a token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    pub breakdown: Vec<NodeTimes>,
}

impl PlanPrediction {
    /// What plans are compared by, if a pass takes `time_per_token` microseconds: those of a typical request.
    pub fn request_with(&self, time_per_token: i64) -> i64 {
        let answer = i64::from(self.answer_tokens.max(0));
        let prompts = self.request_microseconds.saturating_sub(answer.saturating_mul(self.time_per_token_microseconds));
        let (prompts, answer) = match self.request_microseconds {
            // Made before requests were predicted: the prompt that it tells of, and the answer that is usual.
            0 => {
                (i64::from(self.time_to_first_token_milliseconds).saturating_mul(1000), i64::from(Goal::TYPICAL_ANSWER))
            }
            _ => (prompts, answer),
        };
        prompts.max(0).saturating_add(answer.saturating_mul(time_per_token))
    }

    /// The same as predicted.
    pub fn request(&self) -> i64 {
        self.request_with(self.time_per_token_microseconds)
    }
}

/// What one node does for a token. Compute, disk and link may overlap.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTimes {
    /// The node.
    pub node: String,
    /// Time that it computes.
    #[serde(default)]
    pub compute_microseconds: i64,
    /// Time that its disk reads.
    #[serde(default)]
    pub disk_microseconds: i64,
    /// Time that it sends.
    #[serde(default)]
    pub link_microseconds: i64,
    /// Time that it has work but waits for weights.
    #[serde(default)]
    pub stall_microseconds: i64,
    /// Time that nothing of it works.
    #[serde(default)]
    pub idle_microseconds: i64,
}

/// A node that takes no part.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedNode {
    /// The node.
    pub node: String,
    /// Why, in one word: NoAgent, ProfileStale, ProfileIncomplete, ArchitectureMismatch, Excluded, Unschedulable, NotReady,
    /// NoMemoryLeft, NoDiskLeft, OverMaxCount, SchedulerRefused, LinkLost or NotUseful.
    #[serde(default)]
    pub reason: String,
    /// Why, as a sentence.
    #[serde(default)]
    pub message: String,
}

/// A plan that was close.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanAlternative {
    /// Nodes in ring order.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Layers of each.
    #[serde(default)]
    pub layers: Vec<i32>,
    /// Times round the ring for a token.
    #[serde(default)]
    pub segments: i32,
    /// Predicted time per token in microseconds.
    #[serde(default)]
    pub time_per_token_microseconds: i64,
    /// As in the prediction.
    #[serde(default)]
    pub request_microseconds: i64,
}

/// What is missing for a plan.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shortfall {
    /// Bytes that are missing on `node`; 0 where no amount on one node helps.
    #[serde(default)]
    pub missing_bytes: i64,
    /// The node to which the least would have to be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it is, in one word: Infeasible or TooFewNodes.
    #[serde(default)]
    pub reason: ShortfallReason,
    /// The whole answer as a sentence.
    #[serde(default)]
    pub message: String,
    /// Changes that were tried and do fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_fit: Vec<String>,
}

/// What is missing for a plan: Infeasible (memory, disk or time) or TooFewNodes (`spec.nodes.minCount` asks for more).
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShortfallReason {
    /// Nothing fits.
    #[default]
    Infeasible,
    /// Fewer nodes can take part than the least that the spec asks for.
    TooFewNodes,
}

/// What became of a plan.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimePlanStatus {
    /// Proposed: it awaits approval or its turn. Active: it is in force. Superseded: another one is. Infeasible: nothing fits.
    #[serde(default)]
    pub state: PlanState,
    /// When it came into force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Time>,
    /// Digests of further wishes that lead to this very plan: they differ in what no plan is made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
}

/// What became of a plan: Proposed, Active, Superseded or Infeasible.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanState {
    /// It awaits approval or its turn.
    #[default]
    Proposed,
    /// It is in force.
    Active,
    /// Another one is, or the wish changed.
    Superseded,
    /// Nothing fits.
    Infeasible,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_compared_by_what_requests_take() {
        let prediction = PlanPrediction {
            time_per_token_microseconds: 2_000,
            time_to_first_token_milliseconds: 30,
            answer_tokens: 10,
            request_microseconds: 50_000,
            ..PlanPrediction::default()
        };
        assert_eq!((prediction.request(), prediction.request_with(3_000)), (50_000, 60_000));
        // A plan of a version that predicted no requests.
        let earlier = PlanPrediction { answer_tokens: 0, request_microseconds: 0, ..prediction };
        assert_eq!((earlier.request(), earlier.request_with(3_000)), (30_000 + 256 * 2_000, 30_000 + 256 * 3_000));
    }
}
