//! How weights lie on disk and in memory: as the model's files have them, or compact.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a deployment's weights lie on disk and in memory. The numbers, and so every result, are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Encoding {
    /// As the model's files have them.
    #[default]
    Raw,
    /// bf16 matrices with their exponents coded in three bits: 0.71 of the bytes, expanded as they are multiplied.
    Compact,
}

impl Encoding {
    /// Whether this is [`Encoding::Raw`], which needs no mention.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands out references")]
    pub(crate) const fn is_raw(&self) -> bool {
        matches!(self, Self::Raw)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Compact => "compact",
        })
    }
}
