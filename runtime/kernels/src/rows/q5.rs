use lime_plan::Format;

use super::units::{four, halves, nibbles};
use crate::quants::{Lanes, Offsets, QuantFormat, Quants};
use crate::simd::Dots;

pub(crate) struct Q5_0;
pub(crate) struct Q5_1;

/// Blocks `2 * pair` and the next of units of so many bytes, of which the last twenty are fifth bits and quants.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn pair<D: Dots>(units: *const u8, unit: usize, pair: usize) -> D::Bytes {
    // SAFETY: by the caller's word.
    unsafe {
        let fifths = units.add((2 * pair + 1) * unit - 20);
        D::add_where(nibbles::<D>(units, unit, unit - 16, pair), [four(fifths), four(fifths.add(unit))], 16)
    }
}

impl QuantFormat for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const QUANTS: Quants = Quants::Greater(16);
    const GREATEST: u8 = 31;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, index: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe { pair::<D>(units, 22, index) }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, 22, 0)) }
    }
}

impl QuantFormat for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    const QUANTS: Quants = Quants::Greater(0);
    const GREATEST: u8 = 31;
    const OFFSETS: Offsets = Offsets::Blocks;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, index: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe { pair::<D>(units, 24, index) }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, 24, 0)) }
    }

    #[inline(always)]
    unsafe fn offsets<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, 24, 2)) }
    }
}
