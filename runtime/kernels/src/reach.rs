//! How far the numbers of an element type reach.

use lime_plan::Dtype;

/// The range of a type that is narrower than f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// The greatest number of the type.
    pub greatest: f32,
    /// The least number that would be rounded to infinity: half a step above it.
    pub beyond: f32,
}

/// How far rounding to the type reaches; `None` for f32 itself.
pub const fn reach(dtype: Dtype) -> Option<Reach> {
    match dtype {
        Dtype::Bf16 => Some(Reach { greatest: f32::from_bits(0x7f7f_0000), beyond: f32::from_bits(0x7f7f_8000) }),
        Dtype::F16 => Some(Reach { greatest: 65504.0, beyond: 65520.0 }),
        Dtype::F32 => None,
    }
}
