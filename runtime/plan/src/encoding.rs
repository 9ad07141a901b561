//! The planner's choice of how weights lie on disk and in memory: as the model's files have them, or compact.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::format::Format;

/// How a deployment's weights lie on disk and in memory: a choice for all of a model, which says of every tensor in which
/// [`Format`] it is kept. The numbers, and so every result, are the same.
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
    /// The format in which a matrix is kept that the model's files have in `format`.
    pub const fn of(self, format: Format) -> Format {
        match (self, format) {
            (Self::Compact, Format::Bf16) => Format::CompactBf16,
            (_, format) => format,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bf16_has_a_compact_form_and_it_counts_as_bf16() {
        for format in Format::ALL {
            let kept = Encoding::Compact.of(format);
            assert_eq!(kept == format, format != Format::Bf16, "{format}");
            assert_eq!(
                (kept.counts_as(), kept.is_quantized()),
                (format.counts_as(), format.is_quantized()),
                "{format}"
            );
            assert_eq!(Encoding::Raw.of(format), format);
        }
    }
}
