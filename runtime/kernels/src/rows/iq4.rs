use lime_plan::Format;

use super::units::{four, halves, nibbles, shared_halves};
use crate::quants::{Lanes, QuantFormat, Quants};
use crate::simd::{Dots, Simd};

pub(crate) struct Iq4Nl;
pub(crate) struct Iq4Xs;

/// What a half of a byte stands for.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

impl QuantFormat for Iq4Nl {
    const FORMAT: Format = Format::Iq4Nl;
    const QUANTS: Quants = Quants::Signed;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe { D::levels(&LEVELS, nibbles::<D>(units, 18, 2, pair)) }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(halves(units, 18, 0)) }
    }
}

impl QuantFormat for Iq4Xs {
    const FORMAT: Format = Format::Iq4Xs;
    const QUANTS: Quants = Quants::Signed;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe {
            let quants = units.add(pair / 4 * 136 + 8 + pair % 4 * 32);
            D::levels(&LEVELS, D::nibbles(quants, quants.add(16)))
        }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe {
            let factors = D::byte_floats([factors(units), factors(units.add(136))]);
            D::S::mul(D::half_floats(shared_halves(units, 136, 0)), D::S::sub(factors, D::S::splat(32.0)))
        }
    }
}

/// The factors of the eight blocks of a unit, a byte each.
///
/// # Safety
/// There is a unit.
#[inline(always)]
unsafe fn factors(unit: *const u8) -> u64 {
    // SAFETY: by the caller's word.
    let [head, low] = unsafe { [four(unit), four(unit.add(4))] };
    // Halves of bytes, and pairs of bits, one to each byte.
    let mut low = u64::from(low);
    low = (low | low << 16) & 0x0000_ffff_0000_ffff;
    low = (low | low << 8) & 0x00ff_00ff_00ff_00ff;
    low = (low | low << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let mut high = u64::from(head >> 16);
    high = (high | high << 24) & 0x0000_00ff_0000_00ff;
    high = (high | high << 12) & 0x000f_000f_000f_000f;
    high = (high | high << 6) & 0x0303_0303_0303_0303;
    low | high << 4
}
