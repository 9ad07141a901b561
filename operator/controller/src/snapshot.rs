//! What is, at one moment, as far as one deployment is concerned. Plain data: the steps that decide see nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use lime_api::{LimeDeployment, LimeNodeProfile, LimePlan};
use lime_plan::Bytes;

use crate::links::Ends;

/// What is, at one moment, as far as one deployment is concerned.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The moment.
    pub now: Timestamp,
    /// The wish and its last status.
    pub deployment: Arc<LimeDeployment>,
    /// Its plans.
    pub plans: Vec<Arc<LimePlan>>,
    /// Its pods: workers, gateway, inspections.
    pub pods: Vec<Arc<Pod>>,
    /// Its inspection Jobs.
    pub jobs: Vec<Arc<Job>>,
    /// The card that an inspection found earlier.
    pub card: Option<StoredCard>,
    /// Whether the Secrets that the spec names have the keys that it names.
    pub token: SecretKey,
    /// The same for the clients' keys.
    pub api_keys: SecretKey,
    /// The API's certificate.
    pub api_certificate: SecretKey,
    /// Every node of the cluster.
    pub nodes: Vec<Arc<Node>>,
    /// Every profile.
    pub profiles: Vec<Arc<LimeNodeProfile>>,
    /// Each node's last heartbeat.
    pub heartbeats: BTreeMap<String, Timestamp>,
    /// Memory that other deployments take, by node.
    pub lent: BTreeMap<String, Bytes>,
    /// Memory that workers of LIME hold now, whosever they are, by node.
    pub held: BTreeMap<String, Bytes>,
    /// Memory that pods other than workers of LIME have requested, by node.
    pub requested: BTreeMap<String, Bytes>,
    /// What the API server, or a controller of Kubernetes, refused to make, by the name of the object: in its own words.
    pub refused: BTreeMap<String, String>,
    /// What keeps pods of ours from starting though they have their node, by the pod's name: the kubelet's own words.
    pub mishaps: BTreeMap<String, String>,
    /// What the gateway said of the ring just now.
    pub ring: Option<RingReport>,
    /// A gateway that leaves and has answers under way.
    pub leaving: Option<Leaving>,
    /// Since when a trigger has been there, by trigger.
    pub since: BTreeMap<&'static str, Timestamp>,
    /// What a new plan was tried for in vain.
    pub tried: BTreeSet<Tried>,
    /// Deployments that this operator looks after, this one among them.
    pub crowd: usize,
    /// Whether a quota of the namespace lets no pod in that has no limit of its processors.
    pub cpu_limits: bool,
}

/// What a new plan was tried for: it gained too little, or was the plan in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tried {
    /// A node.
    Node(String),
    /// Nodes with certain figures: their digest.
    Figures(String),
}

/// A gateway that leaves and has answers under way. It needs its ring as it is until they have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Its pod.
    pub pod: String,
    /// Answers that have not ended.
    pub requests: u64,
    /// When its pod ends, whatever is under way.
    pub until: Timestamp,
}

impl Leaving {
    /// What is waited for, for people. Not how many answers: a status is no counter.
    pub fn message(&self) -> String {
        format!("{} leaves and ends its answers first, until {} at the latest", self.pod, self.until)
    }
}

/// A card, and the digest of the source that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCard {
    /// The digest of the source.
    pub source_digest: String,
    /// The card, in its compact form.
    pub text: String,
}

/// A key of a Secret that a spec names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretKey {
    /// None is named.
    #[default]
    NotNamed,
    /// It is there.
    Present,
    /// The Secret or the key is missing.
    Missing,
}

/// What keeps a ring from serving, where trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingCause {
    /// One of two nodes does not reach the other, though both are there.
    Link(Ends),
    /// The build on this node does not speak the wire of the others.
    Version(String),
    /// A node cannot have its weights, and the reason of the condition that says so.
    Weights(String, &'static str),
}

/// What a gateway says of its ring (`GET /ready`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingReport {
    /// The plan that the gateway follows, in its own words.
    pub plan: String,
    /// The digest of the plan file that it has read.
    pub digest: String,
    /// Whether requests are answered.
    pub ready: bool,
    /// loading, waiting, ready, recovering, unavailable or stopping.
    pub phase: String,
    /// Requests that wait or are answered.
    pub requests: u64,
    /// Weights loaded by node, in percent.
    pub loaded: BTreeMap<String, i32>,
    /// What keeps it from serving.
    pub trouble: Option<String>,
    /// The same for machines, where something else than the ring must change.
    pub cause: Option<RingCause>,
    /// Time per token that clients got lately.
    pub time_per_token_microseconds: Option<i64>,
    /// Time to the first token that clients got lately.
    pub time_to_first_token_microseconds: Option<i64>,
    /// Memory for weights, buffers and KV cache that each worker says it holds, by node.
    pub held: BTreeMap<String, Bytes>,
}
