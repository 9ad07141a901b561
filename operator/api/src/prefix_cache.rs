//! spec.prefixCache: what is kept of requests for those that begin alike.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use lime_plan::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was computed for the beginning of a request, system prompts and the turns of a chat before the last, is kept for those that begin
/// alike: they are answered as if all had been computed, and sooner. It lies in KV cache that no request needs at the moment.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixCache {
    /// Whether anything is kept.
    #[serde(default = "PrefixCache::on")]
    pub enabled: bool,

    /// Whether what was computed for one API key serves the others, too. How soon an answer comes may then tell a client what others have
    /// asked.
    #[serde(default)]
    pub shared_across_keys: bool,

    /// What each node may keep of it on its disk, beside the weights, such as `20Gi`: it outlives workers, gateways and plans that cut the
    /// layers alike. Left out: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub disk: Option<Quantity>,
}

impl PrefixCache {
    /// Bytes that each node may keep on its disk; none where nothing is kept.
    pub fn disk_bytes(&self) -> Option<Bytes> {
        let disk = self.disk.as_ref().filter(|_| self.enabled)?;
        crate::quantity::parse_bytes(&disk.0).ok().filter(|bytes| !bytes.is_zero())
    }

    fn on() -> bool {
        true
    }
}

impl Default for PrefixCache {
    fn default() -> Self {
        Self { enabled: Self::on(), shared_across_keys: false, disk: None }
    }
}
