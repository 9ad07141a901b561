//! Element types of stored matrices and KV entries.

use std::fmt;

/// The type of one stored element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
}

impl ElementType {
    /// Every element type.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::F32];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// How far rounding to the type reaches; `None` for f32 itself.
    pub const fn reach(self) -> Option<Reach> {
        match self {
            Self::Bf16 => Some(Reach { greatest: f32::from_bits(0x7f7f_0000), beyond: f32::from_bits(0x7f7f_8000) }),
            Self::F16 => Some(Reach { greatest: 65504.0, beyond: 65520.0 }),
            Self::F32 => None,
        }
    }
}

/// The range of a type that is narrower than f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// The greatest number of the type.
    pub greatest: f32,
    /// The least number that would be rounded to infinity: half a step above it.
    pub beyond: f32,
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}
