use lime_plan::Format;

use super::units::nibbles;
use crate::quants::{Lanes, QuantFormat, Quants};
use crate::simd::{Dots, Simd};

pub(crate) struct Mxfp4;

/// Bytes of a unit.
const UNIT: usize = 17;
/// What is added to all of [`LEVELS`], so that they have no sign.
const GREATER: i8 = 12;
/// What a half of a byte stands for, twice: a half is among them.
const LEVELS: [i8; 16] = greater([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]);

const fn greater(mut levels: [i8; 16]) -> [i8; 16] {
    let mut at = 0;
    while at < levels.len() {
        levels[at] += GREATER;
        at += 1;
    }
    levels
}

/// Half of the scale with this exponent, 2 to its power less 127.
#[inline(always)]
fn half_scale(exponent: u8) -> f32 {
    // The two least are below the numbers with a full exponent.
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { u32::from(exponent - 1) << 23 })
}

impl QuantFormat for Mxfp4 {
    const FORMAT: Format = Format::Mxfp4;
    const QUANTS: Quants = Quants::Greater(GREATER as i32);
    const GREATEST: u8 = 2 * GREATER as u8;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe { D::levels(&LEVELS, nibbles::<D>(units, UNIT, 1, pair)) }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe {
            let mut scales = [0.0; 16];
            for block in 0..16 {
                scales[block] = half_scale(*units.add(block * UNIT));
            }
            D::S::load(scales.as_ptr())
        }
    }
}
