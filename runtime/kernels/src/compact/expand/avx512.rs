//! AVX-512 with byte instructions: a group at a time.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::super::layout::{GROUP, TABLE};
use super::Groups;

/// `a & b | c` of three operands bit by bit.
const AND_OR: i32 = 0xea;
/// `a & !b | c`.
const AND_NOT_OR: i32 = 0xba;
/// `a ? b : c`.
const SELECT: i32 = 0xca;

/// # Safety
/// As [`super::ExpandPart`], with AVX-512F and AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
pub(super) unsafe fn expand(part: *const u8, groups: usize, table: [u8; TABLE], into: *mut u8, ahead: usize) {
    let table = _mm512_set1_epi64(i64::from_le_bytes(table));
    let sign = _mm512_set1_epi8(0x80_u8 as i8);
    // What the exponents give to the upper and to the lower byte of an element.
    let upper = _mm512_andnot_si512(sign, _mm512_srli_epi16::<1>(table));
    let lower = _mm512_and_si512(sign, _mm512_slli_epi16::<7>(table));
    let low_shifts = _mm512_setr_epi64(0, 0, 2, 2, 4, 4, 6, 6);
    // To the right, modulo 64: the code's third bit becomes bit 2.
    let high_shifts = _mm512_setr_epi64(62, 63, 0, 1, 2, 3, 4, 5);
    for (rest, codes, into) in Groups::new(part, groups, into, ahead) {
        let rest = _mm512_loadu_si512(rest.cast());
        let low = _mm512_srlv_epi64(_mm512_broadcast_i32x4(_mm_loadu_si128(codes.cast())), low_shifts);
        let high = _mm512_set1_epi64(codes.add(16).cast::<i64>().read_unaligned());
        let high = _mm512_rorv_epi64(high, high_shifts);
        let index = _mm512_ternarylogic_epi64::<SELECT>(_mm512_set1_epi8(3), low, high);
        let index = _mm512_and_si512(index, _mm512_set1_epi8(7));
        let upper = _mm512_ternarylogic_epi64::<AND_OR>(rest, sign, _mm512_shuffle_epi8(upper, index));
        let lower = _mm512_ternarylogic_epi64::<AND_NOT_OR>(rest, sign, _mm512_shuffle_epi8(lower, index));
        _mm512_storeu_si512(into.cast(), _mm512_unpacklo_epi8(lower, upper));
        _mm512_storeu_si512(into.add(GROUP).cast(), _mm512_unpackhi_epi8(lower, upper));
    }
}
