use lime_plan::Format;

use super::units::{halves, nibbles};
use crate::quants::{Lanes, QuantFormat, Quants};
use crate::simd::Dots;

/// Bytes of a unit.
const UNIT: usize = 18;

pub(crate) struct Q4_0;

impl QuantFormat for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const QUANTS: Quants = Quants::Greater(8);
    const GREATEST: u8 = 15;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe { nibbles::<D>(units, UNIT, 2, pair) }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, UNIT, 0)) }
    }
}
