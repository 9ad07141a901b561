//! AVX2: half a group at a time.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::super::layout::TABLE;
use super::Groups;

/// # Safety
/// As [`super::ExpandPart`], with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn expand(part: *const u8, groups: usize, table: [u8; TABLE], into: *mut u8, ahead: usize) {
    // The code's third bit is bit 3 of an index, so that one shift to the left and one to the right bring it there:
    // exponents 0 to 3 stand at 0, exponents 4 to 7 at 8.
    let table = u64::from_le_bytes(table);
    let (first, second) = (i64::from(table as u32), (table >> 32) as i64);
    let table = _mm256_setr_epi64x(first, second, first, second);
    let sign = _mm256_set1_epi8(0x80_u8 as i8);
    // What the exponents give to the upper and to the lower byte of an element.
    let upper = _mm256_andnot_si256(sign, _mm256_srli_epi16::<1>(table));
    let lower = _mm256_and_si256(sign, _mm256_slli_epi16::<7>(table));
    for (rest, codes, into) in Groups::new(part, groups, into, ahead) {
        let low = _mm256_broadcastsi128_si256(_mm_loadu_si128(codes.cast()));
        let high = _mm256_set1_epi64x(codes.add(16).cast::<i64>().read_unaligned());
        let low0 = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
        let low1 = _mm256_srlv_epi32(low, _mm256_setr_epi32(4, 4, 4, 4, 6, 6, 6, 6));
        let high0 = _mm256_sllv_epi64(high, _mm256_setr_epi64x(3, 2, 1, 0));
        let high1 = _mm256_srlv_epi64(high, _mm256_setr_epi64x(1, 2, 3, 4));
        half(rest, low0, high0, upper, lower, into);
        half(rest.add(32), low1, high1, upper, lower, into.add(32));
    }
}

/// Places 0 to 31 or 32 to 63 of a group: 16 elements at `into`, and 16 of the group's second half.
#[inline(always)]
unsafe fn half(rest: *const u8, low: __m256i, high: __m256i, upper: __m256i, lower: __m256i, into: *mut u8) {
    let rest = _mm256_loadu_si256(rest.cast());
    let sign = _mm256_set1_epi8(0x80_u8 as i8);
    let index =
        _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(3)), _mm256_and_si256(high, _mm256_set1_epi8(8)));
    let upper = _mm256_or_si256(_mm256_and_si256(rest, sign), _mm256_shuffle_epi8(upper, index));
    let lower = _mm256_or_si256(_mm256_andnot_si256(sign, rest), _mm256_shuffle_epi8(lower, index));
    _mm256_storeu_si256(into.cast(), _mm256_unpacklo_epi8(lower, upper));
    _mm256_storeu_si256(into.add(64).cast(), _mm256_unpackhi_epi8(lower, upper));
}
