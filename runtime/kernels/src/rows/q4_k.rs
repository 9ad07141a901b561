use lime_plan::Format;

use super::units::{four, negated, shared_halves};
use crate::quants::{Lanes, Offsets, QuantFormat, Quants};
use crate::simd::{Dots, Simd};

pub(crate) struct Q4K;
pub(crate) struct Q5K;

/// The factors of scale and offset of the eight blocks of a unit, a byte each.
struct Factors {
    scales: u64,
    offsets: u64,
}

/// Eight factors: what is under the upper two bits of `first`, and the low halves of `last` below those.
#[inline(always)]
fn eight(first: u32, last: u32) -> u64 {
    u64::from(first & 0x3f3f_3f3f) | u64::from(last & 0x0f0f_0f0f | first >> 2 & 0x3030_3030) << 32
}

impl Factors {
    /// # Safety
    /// There is a unit.
    #[inline(always)]
    unsafe fn of(unit: *const u8) -> Self {
        // SAFETY: by the caller's word.
        let [a, b, c] = unsafe { [four(unit.add(4)), four(unit.add(8)), four(unit.add(12))] };
        // The last four blocks have their low four bits in one place and the other two above those of the first four.
        Self { scales: eight(a, c), offsets: eight(b, c >> 4) }
    }
}

/// Two blocks, one in the low halves of 32 bytes and one in their high ones.
///
/// # Safety
/// The bytes are there.
#[inline(always)]
unsafe fn nibbles<D: Dots>(bytes: *const u8) -> D::Bytes {
    // SAFETY: by the caller's word.
    unsafe { D::bits(D::twice(bytes), 0, 4, 15) }
}

impl QuantFormat for Q4K {
    const FORMAT: Format = Format::Q4K;
    const QUANTS: Quants = Quants::Greater(0);
    const GREATEST: u8 = 15;
    const OFFSETS: Offsets = Offsets::Blocks;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe { nibbles::<D>(units.add(pair / 4 * 144 + 16 + pair % 4 * 32)) }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe {
            let factors = [Factors::of(units).scales, Factors::of(units.add(144)).scales];
            let factors = D::byte_floats(factors);
            D::S::mul(D::half_floats(shared_halves(units, 144, 0)), factors)
        }
    }

    #[inline(always)]
    unsafe fn offsets<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe {
            let factors = [Factors::of(units).offsets, Factors::of(units.add(144)).offsets];
            let factors = D::byte_floats(factors);
            D::S::mul(D::half_floats(negated(shared_halves(units, 144, 2))), factors)
        }
    }
}

impl QuantFormat for Q5K {
    const FORMAT: Format = Format::Q5K;
    const QUANTS: Quants = Quants::Greater(0);
    const GREATEST: u8 = 31;
    const OFFSETS: Offsets = Offsets::Blocks;

    #[inline(always)]
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes {
        // SAFETY: the caller's units.
        unsafe {
            let (unit, pair) = (units.add(pair / 4 * 176), pair % 4);
            let place = 2 * pair as i32 - 4;
            let fifths = D::bits(D::twice(unit.add(16)), place, place + 1, 16);
            D::or(nibbles::<D>(unit.add(48 + pair * 32)), fifths)
        }
    }

    #[inline(always)]
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe {
            let factors = [Factors::of(units).scales, Factors::of(units.add(176)).scales];
            let factors = D::byte_floats(factors);
            D::S::mul(D::half_floats(shared_halves(units, 176, 0)), factors)
        }
    }

    #[inline(always)]
    unsafe fn offsets<D: Dots>(units: *const u8) -> Lanes<D> {
        // SAFETY: the caller's units.
        unsafe {
            let factors = [Factors::of(units).offsets, Factors::of(units.add(176)).offsets];
            let factors = D::byte_floats(factors);
            D::S::mul(D::half_floats(negated(shared_halves(units, 176, 2))), factors)
        }
    }
}
