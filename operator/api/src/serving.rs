//! spec.serving and spec.objective: what clients may ask for, and how fast they want it.

use lime_plan::{Dtype, Limit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients may ask for at once. Memory for the KV cache follows from it.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// Longest sequence in tokens, prompt and answer together.
    #[serde(default = "Serving::default_max_context_tokens")]
    #[schemars(range(min = 1, max = Limit::CONTEXT.most))]
    pub max_context_tokens: i32,

    /// Requests that are worked on at once; more wait in a queue.
    #[serde(default = "Serving::default_max_concurrent_requests")]
    #[schemars(range(min = 1, max = Limit::REQUESTS.most))]
    pub max_concurrent_requests: i32,

    /// What the plan is made for. Sporadic: least time of one request, from its prompt to the end of its answer. Bursty: the same of
    /// as many as there may be at once, so that most of them are answered. See objective.promptTokens and answerTokens.
    #[serde(default)]
    pub request_pattern: RequestPattern,

    /// Rows of a prompt that go through the ring at once. More is faster and takes more memory for activations; the
    /// answer is the same.
    #[serde(default = "Serving::default_prefill_chunk_tokens")]
    #[schemars(range(min = 1, max = Limit::PREFILL_ROWS.most))]
    pub prefill_chunk_tokens: i32,

    /// The type of KV cache entries. Auto: F32 for weights in F32, F16 for all others. BF16, F16 and F32: that type. In the
    /// same bytes F16 keeps closer to the answers of F32 than BF16 does. Weights is an older name of Auto.
    #[serde(default)]
    pub kv_cache_type: KvCacheType,
}

impl Serving {
    fn default_max_context_tokens() -> i32 {
        4096
    }

    fn default_max_concurrent_requests() -> i32 {
        4
    }

    fn default_prefill_chunk_tokens() -> i32 {
        128
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            max_context_tokens: Self::default_max_context_tokens(),
            max_concurrent_requests: Self::default_max_concurrent_requests(),
            request_pattern: RequestPattern::default(),
            prefill_chunk_tokens: Self::default_prefill_chunk_tokens(),
            kv_cache_type: KvCacheType::default(),
        }
    }
}

/// How requests come: one at a time (Sporadic) or many at once (Bursty).
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestPattern {
    /// Least time of one request.
    #[default]
    Sporadic,
    /// Most requests answered where all come at once.
    Bursty,
}

/// The type of KV cache entries.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvCacheType {
    /// F32 for weights in F32, F16 for all others.
    #[default]
    Auto,
    /// As Auto: its older name, which API servers wrote into the objects of earlier versions as their default.
    Weights,
    /// bfloat16.
    #[serde(rename = "BF16")]
    Bf16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
}

impl KvCacheType {
    /// The type that is meant, for a model whose weights are stored in `weights`.
    pub const fn dtype(self, weights: Dtype) -> Dtype {
        match self {
            Self::Auto | Self::Weights => weights.kv_entries(),
            Self::Bf16 => Dtype::Bf16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }
}

/// How sums are formed: Exact or Candle.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arithmetic {
    /// The same tokens on every CPU and over every plan.
    #[default]
    Exact,
    /// candle's own operations: the way to GPUs.
    Candle,
}

impl From<Arithmetic> for lime_plan::Arithmetic {
    fn from(asked: Arithmetic) -> Self {
        match asked {
            Arithmetic::Exact => Self::Exact,
            Arithmetic::Candle => Self::Candle,
        }
    }
}

/// The requests that are expected, and the speed that is wanted.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// From a request's arrival to its first token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub time_to_first_token_milliseconds: Option<i32>,

    /// Between two tokens of an answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub time_per_token_milliseconds: Option<i32>,

    /// Tokens of the prompt of a typical request. Plans are made for the least time of such requests from prompt to end of answer. 512
    /// where absent, or two thirds of a context that does not hold it and the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = Limit::CONTEXT.most))]
    pub prompt_tokens: Option<i32>,

    /// Tokens of the answer of a typical request; 256 where absent, or what the prompt leaves of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = Limit::CONTEXT.most))]
    pub answer_tokens: Option<i32>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn kv_entries_are_f16_unless_something_else_is_said() {
        let meant = |serving: &str, weights| -> Dtype {
            serde_json::from_str::<Serving>(serving).unwrap().kv_cache_type.dtype(weights)
        };
        for unsaid in ["{}", r#"{"kvCacheType":"Auto"}"#, r#"{"kvCacheType":"Weights"}"#] {
            assert_eq!(meant(unsaid, Dtype::Bf16), Dtype::F16, "{unsaid}");
            assert_eq!(meant(unsaid, Dtype::F16), Dtype::F16, "{unsaid}");
            assert_eq!(meant(unsaid, Dtype::F32), Dtype::F32, "{unsaid}");
        }
        for (said, dtype) in [("BF16", Dtype::Bf16), ("F16", Dtype::F16), ("F32", Dtype::F32)] {
            assert_eq!(meant(&format!(r#"{{"kvCacheType":"{said}"}}"#), Dtype::Bf16), dtype);
        }
    }
}
