//! The custom resources of LIME, group `lime.dev/v1alpha1`: types, schema and rules.
//!
//! A [`LimeDeployment`] is the wish: which model is to be served, for whom, on which nodes. Only `spec.model.source` is
//! required. The same types are read from a cluster by the operator and from a file by `lime up`. A [`LimePlan`] is one
//! answer to it: who would hold what, how fast that should be, or why nothing fits. A [`LimeNodeProfile`] says what a node
//! has, as its agent measured it.
//!
//! ```
//! use lime_api::LimeDeployment;
//!
//! let wish: LimeDeployment = serde_json::from_value(serde_json::json!({
//!     "metadata": { "name": "bard" },
//!     "spec": { "model": { "source": "file:///models/bard-2m" }, "serving": { "maxContextTokens": 512 } },
//! }))?;
//! assert!(!wish.spec.asleep());
//! # Ok::<(), serde_json::Error>(())
//! ```

mod deployment;
mod document;
mod endpoint;
mod exposure;
mod failure;
mod fault;
mod faults;
mod foreign;
mod goal;
mod labels;
mod model;
mod nodes;
mod placement;
mod plan;
mod prefix_cache;
mod profile;
mod quantity;
mod rules;
mod schema;
mod serving;
mod source;
mod speculation;
mod speeds;
mod status;
mod template;
mod template_faults;
mod template_rules;

pub use deployment::{LimeDeployment, LimeDeploymentSpec};
pub use document::{DocumentError, approval_command};
pub use endpoint::{Endpoint, Transport, TransportSecurity};
pub use exposure::{EndpointIngress, EndpointService, ExternalTrafficPolicy, IpFamilyPolicy, ServiceType};
pub use failure::Failure;
pub use fault::Fault;
pub use labels::{COMPONENT_LABEL, DEPLOYMENT_LABEL, component_selector};
pub use model::{Model, SecretKeyRef, SecretRef};
pub use nodes::{Nodes, Offload, OffloadPolicy, WeightEncoding};
pub use placement::{Approval, Placement, Reaction, Replan};
pub use plan::{
    Assignment, LimePlan, LimePlanSpec, LimePlanStatus, NodeTimes, PlanAlternative, PlanPrediction, PlanState,
    RejectedNode, Shortfall, ShortfallReason,
};
pub use prefix_cache::PrefixCache;
pub use profile::{
    AcceleratorStatus, DiskStatus, FormatFigures, HEARTBEAT_LABEL, HEARTBEAT_LEASE_SECONDS, HEARTBEAT_SECONDS,
    LimeNodeProfile, LimeNodeProfileSpec, LimeNodeProfileStatus, LinkStatus, MemoryStatus, PROFILE_REFRESH_SECONDS,
    ProfileOverrides, heartbeat_lease,
};
pub use quantity::{QuantityError, binary_bytes, bytes_per_second, parse_bytes};
pub use schema::{crds, deployment_schema};
pub use serving::{Arithmetic, KvCacheType, Objective, RequestPattern, Serving};
pub use source::{ModelSource, SourceError};
pub use speculation::Speculation;
pub use speeds::{FigureError, NodeSpeeds, UNMEASURED_LINK, believable};
pub use status::{
    ConditionType, EndpointStatus, FailureStatus, LimeDeploymentStatus, LostLink, ModelStatus, PerformanceFigures,
    PerformanceStatus, ShardState, ShardStatus,
};
pub use template::{ExtraMount, ExtraVolume, PodSecurity, PodTemplate, PullSecret, Resources, Template, Variable};

/// The API group of every kind.
pub const GROUP: &str = "lime.dev";
/// The version of every kind.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as objects name them.
pub const API_VERSION: &str = "lime.dev/v1alpha1";
