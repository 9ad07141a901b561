//! What a deployment may be asked for at once.

use serde::{Deserialize, Serialize};

/// What the deployment may be asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServingLimits {
    /// Longest sequence in tokens, prompt and answer together.
    pub max_context_tokens: u32,
    /// Sequences in flight at once: the number of KV slots.
    pub max_concurrent_requests: u32,
    /// Rows of one prefill chunk; bounds the activations.
    pub prefill_chunk_tokens: u32,
}

impl ServingLimits {
    /// Most rows that one pass may carry: every other slot's decode row and one prefill chunk.
    pub const fn max_rows(&self) -> u32 {
        self.prefill_chunk_tokens + self.max_concurrent_requests
    }
}
