//! spec.failure: how failures are borne.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How failures are borne.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// How many restarts a shard may have in about ten minutes before the deployment stops trying: each is forgotten
    /// little by little over that time. The first and the last error are kept in the status.
    #[serde(default = "Failure::default_max_restarts")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_restarts: i32,

    /// How long a node may be silent before it counts as lost, in seconds.
    #[serde(default = "Failure::default_node_loss_grace_seconds")]
    #[schemars(range(min = 5, max = 86_400))]
    pub node_loss_grace_seconds: i32,
}

impl Failure {
    fn default_max_restarts() -> i32 {
        5
    }

    fn default_node_loss_grace_seconds() -> i32 {
        40
    }
}

impl Default for Failure {
    fn default() -> Self {
        Self {
            max_restarts: Self::default_max_restarts(),
            node_loss_grace_seconds: Self::default_node_loss_grace_seconds(),
        }
    }
}
