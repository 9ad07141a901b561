//! The formats of stored tensors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::dtype::Dtype;

/// How the rows of one tensor lie on disk and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Format {
    /// IEEE binary32.
    #[serde(rename = "f32")]
    F32,
    /// IEEE binary16.
    #[serde(rename = "f16")]
    F16,
    /// bfloat16.
    #[serde(rename = "bf16")]
    Bf16,
    /// bf16 matrices with their exponents coded in three bits.
    #[serde(rename = "compact-bf16")]
    CompactBf16,
    /// GGUF's Q8_0: 32 columns are one f16 scale and 32 signed bytes.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// GGUF's Q4_0: 32 columns are one f16 scale and 32 halves of bytes, eight too great.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// GGUF's Q4_1: 32 columns are an f16 scale, an f16 offset and 32 halves of bytes.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// GGUF's Q5_0: 32 columns are one f16 scale and 32 numbers of five bits, sixteen too great.
    #[serde(rename = "q5_0")]
    Q5_0,
    /// GGUF's Q5_1: 32 columns are an f16 scale, an f16 offset and 32 numbers of five bits.
    #[serde(rename = "q5_1")]
    Q5_1,
    /// GGUF's Q4_K: 256 columns in blocks of 32, whose scales and offsets are of six bits.
    #[serde(rename = "q4_k")]
    Q4K,
    /// GGUF's Q5_K: as Q4_K, with five bits a column.
    #[serde(rename = "q5_k")]
    Q5K,
    /// GGUF's Q6_K: 256 columns of six bits, with a scale of eight bits for each 16.
    #[serde(rename = "q6_k")]
    Q6K,
    /// GGUF's Q2_K: 256 columns of two bits, with a scale and an offset of four bits for each 16.
    #[serde(rename = "q2_k")]
    Q2K,
    /// GGUF's Q3_K: 256 columns of three bits, with a scale of six bits for each 16.
    #[serde(rename = "q3_k")]
    Q3K,
    /// GGUF's IQ4_NL: 32 columns are one f16 scale and 32 halves of bytes, each for one of sixteen numbers.
    #[serde(rename = "iq4_nl")]
    Iq4Nl,
    /// GGUF's IQ4_XS: the same numbers, 256 columns in blocks of 32, whose scales are of six bits.
    #[serde(rename = "iq4_xs")]
    Iq4Xs,
    /// MXFP4: 32 columns are a power of two and 32 numbers of four bits.
    #[serde(rename = "mxfp4")]
    Mxfp4,
}

/// Columns that a format stores together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// How many; a row has whole units.
    pub columns: usize,
    /// The bytes that they take.
    pub bytes: usize,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 17] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::CompactBf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q2K,
        Self::Q3K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
    ];

    /// The type of its elements, where each is stored by itself.
    pub const fn element(self) -> Option<Dtype> {
        match self {
            Self::F32 => Some(Dtype::F32),
            Self::F16 => Some(Dtype::F16),
            Self::Bf16 => Some(Dtype::Bf16),
            // Compact, or quantized.
            _ => None,
        }
    }

    /// Whether activations are rounded to bytes for its products.
    pub const fn is_quantized(self) -> bool {
        self.element().is_none() && !matches!(self, Self::CompactBf16)
    }

    /// Columns that are stored together, and the bytes that they take; `None` where a matrix is stored as a whole.
    pub const fn unit(self) -> Option<Unit> {
        let (columns, bytes) = match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::CompactBf16 => return None,
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Iq4Nl => (32, 18),
            Self::Iq4Xs => (256, 136),
            Self::Mxfp4 => (32, 17),
        };
        Some(Unit { columns, bytes })
    }

    /// Bytes of a row of so many columns, about where a matrix is stored as a whole.
    pub const fn row_bytes(self, columns: u64) -> u64 {
        match self.unit() {
            Some(unit) => columns.div_ceil(unit.columns as u64) * unit.bytes as u64,
            None => columns * self.counts_as().size(),
        }
    }

    /// The type that weights stored so count as where a type is asked for: quantized ones are no more exact than f16.
    pub const fn counts_as(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 | Self::CompactBf16 => Dtype::Bf16,
            _ => Dtype::F16,
        }
    }
}

/// A format that nobody here knows: it may be a newer LIME's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no format of weights has this name")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    /// Reads what [`fmt::Display`] writes, in capitals or not.
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let known = Self::ALL.into_iter().find(|format| format.to_string().eq_ignore_ascii_case(text));
        known.ok_or(UnknownFormat)
    }
}

impl From<Dtype> for Format {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::F32 => Self::F32,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::CompactBf16 => "compact bf16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Mxfp4 => "MXFP4",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_read_by_the_name_that_it_is_shown_by() {
        for format in Format::ALL {
            let shown = format.to_string();
            assert_eq!(shown.parse(), Ok(format));
            assert_eq!(shown.to_ascii_lowercase().parse(), Ok(format));
        }
        assert_eq!("Q9_K".parse::<Format>(), Err(UnknownFormat));
        assert_eq!("".parse::<Format>(), Err(UnknownFormat));
    }
}
