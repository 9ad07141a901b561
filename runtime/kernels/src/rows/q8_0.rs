use lime_plan::Format;

use super::units::halves;
use crate::quants::{Lanes, QuantFormat, Quants};
use crate::simd::Dots;

/// Bytes of a unit.
const UNIT: usize = 34;

pub(crate) struct Q8_0;

impl QuantFormat for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const QUANTS: Quants = Quants::Signed;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe {
            let unit = units.add(2 * pair * UNIT);
            D::load_two(unit.add(2), unit.add(UNIT + 2))
        }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, UNIT, 0)) }
    }
}
