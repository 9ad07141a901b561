//! AArch64 Advanced SIMD: a quarter of a group at a time.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::aarch64::*;

use super::super::layout::{GROUP, TABLE};
use super::Groups;

/// # Safety
/// As [`super::ExpandPart`].
pub(super) unsafe fn expand(part: *const u8, groups: usize, table: [u8; TABLE], into: *mut u8, ahead: usize) {
    let table = vcombine_u8(vld1_u8(table.as_ptr()), vdup_n_u8(0));
    // How far a third bit lies from its place in a code, in the two halves of the first quarter; two less in the next.
    let shift = vcombine_s8(vdup_n_s8(2), vdup_n_s8(1));
    for (rest, codes, into) in Groups::new(part, groups, into, ahead) {
        let low = vld1q_u8(codes);
        let high = vld1_u8(codes.add(16));
        let high = vcombine_u8(high, high);
        quarter(vld1q_u8(rest), low, vshlq_u8(high, shift), table, into);
        let shift1 = vsubq_s8(shift, vdupq_n_s8(2));
        quarter(vld1q_u8(rest.add(16)), vshrq_n_u8::<2>(low), vshlq_u8(high, shift1), table, into.add(16));
        let shift2 = vsubq_s8(shift, vdupq_n_s8(4));
        quarter(vld1q_u8(rest.add(32)), vshrq_n_u8::<4>(low), vshlq_u8(high, shift2), table, into.add(32));
        let shift3 = vsubq_s8(shift, vdupq_n_s8(6));
        quarter(vld1q_u8(rest.add(48)), vshrq_n_u8::<6>(low), vshlq_u8(high, shift3), table, into.add(48));
    }
}

/// Sixteen places: 8 elements at `into`, and 8 of the group's second half.
#[inline(always)]
unsafe fn quarter(rest: uint8x16_t, low: uint8x16_t, high: uint8x16_t, table: uint8x16_t, into: *mut u8) {
    let code = vandq_u8(vbslq_u8(vdupq_n_u8(3), low, high), vdupq_n_u8(7));
    let exponent = vqtbl1q_u8(table, code);
    // The sign, and the exponent without its last bit; that bit, and the mantissa.
    let upper = vsriq_n_u8::<1>(rest, exponent);
    let lower = vsliq_n_u8::<7>(rest, exponent);
    vst1q_u8(into, vzip1q_u8(lower, upper));
    vst1q_u8(into.add(GROUP), vzip2q_u8(lower, upper));
}
