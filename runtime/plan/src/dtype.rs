//! Element types of weights, activations and KV entries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of one stored element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::F32];

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The type of KV entries that serves weights of this type best where nobody asks for another: their own, but f16 for bf16.
    /// Keys and values are sums, near zero and of like size: the three bits of mantissa that f16 has over bf16 decide close
    /// tokens, bf16's range does not.
    pub const fn kv_entries(self) -> Self {
        match self {
            Self::Bf16 | Self::F16 => Self::F16,
            Self::F32 => Self::F32,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kv_entries_are_never_less_exact_than_f16() {
        let entries = [Dtype::Bf16, Dtype::F16, Dtype::F32].map(Dtype::kv_entries);
        assert_eq!(entries, [Dtype::F16, Dtype::F16, Dtype::F32]);
    }
}
