//! spec.prefixCache: what is kept of requests for those that begin alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was computed for the beginning of a request, system prompts and the turns of a chat before the last, is kept for those that begin
/// alike: they are answered as if all had been computed, and sooner. It lies in KV cache that no request needs at the moment.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixCache {
    /// Whether anything is kept.
    #[serde(default = "PrefixCache::on")]
    pub enabled: bool,

    /// Whether what was computed for one API key serves the others, too. How soon an answer comes may then tell a client what others have
    /// asked.
    #[serde(default)]
    pub shared_across_keys: bool,
}

impl PrefixCache {
    fn on() -> bool {
        true
    }
}

impl Default for PrefixCache {
    fn default() -> Self {
        Self { enabled: Self::on(), shared_across_keys: false }
    }
}
