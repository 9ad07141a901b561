//! LimeNodeProfile: what a node has, as its agent measured it, and what its administrator lends.

// KubeSchema writes a second copy of the struct into a function.
#![allow(unreachable_pub, clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// What an administrator lends of a node, and figures that stand in for measured ones.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "lime.dev",
    version = "v1alpha1",
    kind = "LimeNodeProfile",
    plural = "limenodeprofiles",
    singular = "limenodeprofile",
    shortname = "limenode",
    category = "lime",
    status = "LimeNodeProfileStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A LimeNodeProfile says what the node of the same name has. The agent on the node keeps its status; administrators set budgets and overrides in its spec.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Fresh\")].status",
        description = "Whether the agent reported lately"
    ),
    printcolumn(
        name = "Arch",
        type_ = "string",
        json_path = ".status.architecture",
        description = "The processor's architecture"
    ),
    printcolumn(
        name = "Accelerator",
        type_ = "string",
        json_path = ".status.accelerator.name",
        description = "The accelerator, if there is one"
    ),
    printcolumn(
        name = "Memory-Free",
        type_ = "string",
        json_path = ".status.memory.available",
        description = "Memory that is free now"
    ),
    printcolumn(
        name = "Disk-Read",
        type_ = "string",
        json_path = ".status.disk.read",
        description = "Bytes a second that the weight store reads"
    ),
    printcolumn(
        name = "Lent",
        type_ = "string",
        json_path = ".status.lent",
        description = "Memory that deployments take on this node, and which"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    )
)]
#[x_kube(validation = Rule::new(rules::PROFILE_BUDGET.0).message(rules::PROFILE_BUDGET.1))]
#[x_kube(validation = Rule::new(rules::PROFILE_RESERVE.0).message(rules::PROFILE_RESERVE.1))]
#[x_kube(validation = Rule::new(rules::PROFILE_DISK.0).message(rules::PROFILE_DISK.1))]
#[serde(rename_all = "camelCase")]
pub struct LimeNodeProfileSpec {
    /// True keeps new plans off this node; deployments that run there are moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excluded: bool,

    /// Most memory that all deployments together may take on this node, such as `12Gi`. Default: what is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory_budget: Option<Quantity>,

    /// Memory that is always left to others, such as `1Gi`. A deployment's own `memoryReserve` counts if it is larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory_reserve: Option<Quantity>,

    /// Most bytes that the weight store may take on this node's disk, such as `200Gi`. Default: what is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub disk_budget: Option<Quantity>,

    /// Figures that stand in for measured ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<ProfileOverrides>,
}

/// Figures that stand in for measured ones.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileOverrides {
    /// Bytes per second at which compute reads memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000, max = 100_000_000_000_000_i64))]
    pub memory_bandwidth_bytes_per_second: Option<i64>,

    /// Bytes per second of compact weights that compute gets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000, max = 100_000_000_000_000_i64))]
    pub compact_bandwidth_bytes_per_second: Option<i64>,

    /// Floating-point operations per second in matrix products of many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000, max = 10_000_000_000_000_000_i64))]
    pub matrix_operations_per_second: Option<i64>,

    /// Figures for weights of single formats. A general one counts for every format that has none of its own here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["format".into()]))]
    pub formats: Vec<FormatFigures>,

    /// Bytes per second that the weight store reads; 0 forbids reading weights from disk while serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub disk_read_bytes_per_second: Option<i64>,
}

/// What the agent measured. Written when a value moved by a tenth, or after ten minutes; the heartbeat is a Lease.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimeNodeProfileStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Fresh (the agent reported lately; the operator makes it False when the heartbeats end), ProcessorMeasured, DiskMeasured and
    /// LinksMeasured; reason MeasuredWhileBusy: measured again when the machine is quiet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// When the figures were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Time>,

    /// The processor's architecture as Kubernetes names it: `amd64` or `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,

    /// Cores that may compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<i32>,

    /// The accelerator, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<AcceleratorStatus>,

    /// Memory over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,

    /// Bytes per second at which compute reads memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bandwidth_bytes_per_second: Option<i64>,

    /// Bytes per second of compact weights that compute gets through; without it no plan with this node makes weights compact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_bandwidth_bytes_per_second: Option<i64>,

    /// Floating-point operations per second in matrix products of many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix_operations_per_second: Option<i64>,

    /// Speeds with weights of single formats, whose arithmetic is another where they are quantized. What is not here counts as weights in general.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["format".into()]))]
    pub formats: Vec<FormatFigures>,

    /// The disk that holds the weight store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskStatus>,

    /// Where the agents of other nodes measure the way to this one, as `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_endpoint: Option<String>,

    /// The way from this node to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["peer".into()]))]
    pub links: Vec<LinkStatus>,

    /// Memory that deployments take on this node, and which, for people, such as `4.5Gi: llm/m`. The operator writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent: Option<String>,
}

/// How fast a node computes with weights of one format.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FormatFigures {
    /// The format as GGUF files name it, such as `Q4_K`.
    #[schemars(length(max = 32))]
    pub format: String,
    /// Bytes per second of such weights in products of one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000, max = 100_000_000_000_000_i64))]
    pub memory_bandwidth_bytes_per_second: Option<i64>,
    /// Operations per second in matrix products of many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000, max = 10_000_000_000_000_000_i64))]
    pub matrix_operations_per_second: Option<i64>,
}

/// An accelerator.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorStatus {
    /// The product.
    #[serde(default)]
    pub name: String,
    /// Its own memory in bytes; 0 where it shares the processor's.
    #[serde(default)]
    pub memory_bytes: i64,
}

/// Memory over time.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// Bytes that the node has.
    #[serde(default)]
    pub total_bytes: i64,
    /// Bytes that could be had now without swapping (`MemAvailable`), workers of LIME included in what is taken.
    #[serde(default)]
    pub available_bytes: i64,
    /// The least that was available in the last hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_water_bytes: Option<i64>,
    /// Bytes that workers of LIME hold now: they are lent and come back. Absent where the agent cannot see it (it sees no control
    /// group but its own); the operator asks the workers then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lime_bytes: Option<i64>,
    /// `availableBytes` for people, such as `13.4Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
}

/// The disk that holds the weight store.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// Bytes per second in large sequential reads past the page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_second: Option<i64>,
    /// Bytes that are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// Bytes that the file system has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// `readBytesPerSecond` for people, such as `2.1GB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

/// The way from this node to another.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// The other node.
    pub peer: String,
    /// Bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bits_per_second: Option<i64>,
    /// There and back, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_microseconds: Option<i64>,
    /// When it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Time>,
}

/// The Lease by which the agent of `node` shows that it lives, in the namespace of the agents: held by the node's name.
pub fn heartbeat_lease(node: &str) -> String {
    format!("lime-node-{node}")
}

/// The label by which the agents' Leases are found; its value is `agent`.
pub const HEARTBEAT_LABEL: &str = "lime.dev/heartbeat";
/// Seconds between two heartbeats.
pub const HEARTBEAT_SECONDS: i32 = 10;
/// Seconds after which a node without heartbeat counts as silent.
pub const HEARTBEAT_LEASE_SECONDS: i32 = 40;
/// Seconds after which an agent writes its status even where nothing moved.
pub const PROFILE_REFRESH_SECONDS: i64 = 600;
