use lime_plan::Format;

use super::units::{eight, negated, shared_halves};
use crate::quants::{Lanes, Offsets, QuantFormat, Quants};
use crate::simd::Dots;

/// Bytes of a unit.
const UNIT: usize = 84;

pub(crate) struct Q2K;

/// The bits of each half of a byte.
const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;

impl QuantFormat for Q2K {
    const FORMAT: Format = Format::Q2K;
    const QUANTS: Quants = Quants::Greater(0);
    const GREATEST: u8 = 3;
    const HALVES: bool = true;
    const OFFSETS: Offsets = Offsets::Halves;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe {
            // Two pairs share 32 bytes.
            let (unit, place) = (units.add(pair / 4 * UNIT), 4 * (pair % 2) as i32);
            D::bits(D::twice(unit.add(16 + pair / 2 % 2 * 32)), place, place + 2, 3)
        }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(shared_halves(units, UNIT, 80)) }
    }

    #[inline(always)]
    unsafe fn half_factors<D: Dots>(units: *const u8) -> [D::Ints; 2] {
        // SAFETY: the caller's units.
        unsafe {
            let [a, b, c, d] = factors(units);
            D::evens_odds([a & LOW, b & LOW, c & LOW, d & LOW])
        }
    }

    #[inline(always)]
    unsafe fn offsets<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(negated(shared_halves(units, UNIT, 82))) }
    }

    #[inline(always)]
    unsafe fn offset_factors<D: Dots>(units: *const u8) -> [D::Ints; 2] {
        // SAFETY: the caller's units.
        unsafe {
            let [a, b, c, d] = factors(units);
            D::evens_odds([a >> 4 & LOW, b >> 4 & LOW, c >> 4 & LOW, d >> 4 & LOW])
        }
    }
}

/// The factors of two units: a byte for each half of a block.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn factors(units: *const u8) -> [u64; 4] {
    // SAFETY: by the caller's word.
    unsafe { [eight(units), eight(units.add(8)), eight(units.add(UNIT)), eight(units.add(UNIT + 8))] }
}
