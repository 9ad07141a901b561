use lime_plan::Format;

use super::units::{halves, nibbles};
use crate::quants::{Lanes, Offsets, QuantFormat, Quants};
use crate::simd::Dots;

/// Bytes of a unit.
const UNIT: usize = 20;

pub(crate) struct Q4_1;

impl QuantFormat for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const QUANTS: Quants = Quants::Greater(0);
    const GREATEST: u8 = 15;
    const OFFSETS: Offsets = Offsets::Blocks;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe { nibbles::<D>(units, UNIT, 4, pair) }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, UNIT, 0)) }
    }

    #[inline(always)]
    unsafe fn offsets<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, UNIT, 2)) }
    }
}
