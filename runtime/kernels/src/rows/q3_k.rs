use lime_plan::Format;

use super::units::{four, shared_halves};
use crate::quants::{Lanes, QuantFormat, Quants};
use crate::simd::Dots;

/// Bytes of a unit.
const UNIT: usize = 110;

pub(crate) struct Q3K;

/// The sixteen scales of a unit, signed bytes.
///
/// # Safety
/// There is a unit.
#[inline(always)]
unsafe fn scales(unit: *const u8) -> [u64; 2] {
    // SAFETY: by the caller's word.
    let [a, b, high] = unsafe { [four(unit.add(96)), four(unit.add(100)), four(unit.add(104))] };
    [eight([a, high], [b, high >> 2]), eight([a >> 4, high >> 4], [b >> 4, high >> 6])]
}

/// Eight scales, each of the low four bits of a byte and of the low two bits of another.
#[inline(always)]
fn eight(first: [u32; 2], last: [u32; 2]) -> u64 {
    let first = first[0] & 0x0f0f_0f0f | (first[1] & 0x0303_0303) << 4;
    let last = last[0] & 0x0f0f_0f0f | (last[1] & 0x0303_0303) << 4;
    // 32 is taken off each byte where a bit above it keeps the others out of it.
    const TOP: u64 = 0x8080_8080_8080_8080;
    ((u64::from(first) | u64::from(last) << 32 | TOP) - 0x2020_2020_2020_2020) ^ TOP
}

impl QuantFormat for Q3K {
    const FORMAT: Format = Format::Q3K;
    const QUANTS: Quants = Quants::Greater(4);
    const GREATEST: u8 = 7;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe {
            // Two pairs share 32 bytes of low bits, and all four the 32 of third ones.
            let (unit, index) = (units.add(pair / 4 * UNIT), pair % 4);
            let (low, third) = (4 * (index % 2) as i32, 2 * index as i32 - 2);
            let lows = D::bits(D::twice(unit.add(32 + index / 2 * 32)), low, low + 2, 3);
            D::or(lows, D::bits(D::twice(unit), third, third + 1, 4))
        }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe { D::half_floats(shared_halves(units, UNIT, 108)) }
    }

    #[inline(always)]
    unsafe fn half_factors<D: Dots>(units: *const u8) -> [D::Ints; 2] {
        // SAFETY: the caller's units.
        unsafe {
            let ([a, b], [c, d]) = (scales(units), scales(units.add(UNIT)));
            D::evens_odds([a, b, c, d])
        }
    }
}
