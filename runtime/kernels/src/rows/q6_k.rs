use lime_plan::Format;

use super::units::{eight, shared_halves};
use crate::quants::{Lanes, QuantFormat, Quants};
use crate::simd::Dots;

/// Bytes of a unit.
const UNIT: usize = 210;

pub(crate) struct Q6K;

impl QuantFormat for Q6K {
    const FORMAT: Format = Format::Q6K;
    const QUANTS: Quants = Quants::Greater(32);
    const GREATEST: u8 = 63;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe {
            // Half a unit is two pairs, which share the bytes of low bits and those of high bits.
            let (unit, half, index) = (units.add(pair / 4 * UNIT), pair / 2 % 2, pair % 2);
            let place = 4 * index as i32;
            let lows = D::bits(D::load(unit.add(64 * half)), place, place, 15);
            D::or(lows, D::bits(D::twice(unit.add(128 + 32 * half)), place - 4, place - 2, 0x30))
        }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(shared_halves(units, UNIT, 208)) }
    }

    #[inline(always)]
    unsafe fn half_factors<D: Dots>(units: *const u8) -> [D::Ints; 2] {
        // SAFETY: the caller's units.
        unsafe {
            let scales = [units.add(192), units.add(UNIT + 192)];
            D::evens_odds([eight(scales[0]), eight(scales[0].add(8)), eight(scales[1]), eight(scales[1].add(8))])
        }
    }
}
