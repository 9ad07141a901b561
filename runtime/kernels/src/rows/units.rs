//! Numbers that lie in the units of a chunk. Loops instead of closures: these are compiled for every instruction set, and a closure
//! would stay a call.

use crate::simd::Dots;

/// The f16 at byte `at` of each of sixteen units of so many bytes, a block each.
///
/// # Safety
/// The units are there.
#[inline(always)]
pub(super) unsafe fn halves(units: *const u8, unit: usize, at: usize) -> [u16; 16] {
    let mut found = [0; 16];
    for block in 0..16 {
        // SAFETY: by the caller's word.
        found[block] = u16::from_le_bytes(unsafe { units.add(block * unit + at).cast::<[u8; 2]>().read() });
    }
    found
}

/// The f16 at byte `at` of two units of so many bytes, which have eight blocks each.
///
/// # Safety
/// The units are there.
#[inline(always)]
pub(super) unsafe fn shared_halves(units: *const u8, unit: usize, at: usize) -> [u16; 16] {
    let mut found = [0; 16];
    for block in 0..16 {
        // SAFETY: by the caller's word.
        found[block] = u16::from_le_bytes(unsafe { units.add(block / 8 * unit + at).cast::<[u8; 2]>().read() });
    }
    found
}

/// Blocks `2 * pair` and the next of units of so many bytes, a block each, whose halves of bytes begin at byte `at`.
///
/// # Safety
/// The units are there.
#[inline(always)]
pub(super) unsafe fn nibbles<D: Dots>(units: *const u8, unit: usize, at: usize, pair: usize) -> D::Bytes {
    // SAFETY: by the caller's word.
    unsafe {
        let first = units.add(2 * pair * unit + at);
        D::nibbles(first, first.add(unit))
    }
}

/// These f16 with the other sign.
#[inline(always)]
pub(super) fn negated(mut halves: [u16; 16]) -> [u16; 16] {
    for block in 0..16 {
        halves[block] ^= 0x8000;
    }
    halves
}

/// The four bytes at `p`, the lowest first.
///
/// # Safety
/// They are there.
#[inline(always)]
pub(super) unsafe fn four(p: *const u8) -> u32 {
    // SAFETY: by the caller's word.
    u32::from_le_bytes(unsafe { p.cast::<[u8; 4]>().read() })
}

/// The eight bytes at `p`, the lowest first.
///
/// # Safety
/// They are there.
#[inline(always)]
pub(super) unsafe fn eight(p: *const u8) -> u64 {
    // SAFETY: by the caller's word.
    u64::from_le_bytes(unsafe { p.cast::<[u8; 8]>().read() })
}
