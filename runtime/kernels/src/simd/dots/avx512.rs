//! AVX-512 VNNI: two blocks are one register. The instruction multiplies bytes without sign by signed ones: weights are made 128
//! greater, and 128 times the activations' sum is taken off again.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::super::avx512::Avx512;
use super::{Dots, DotsTask, avx2};
use crate::lanes::BLOCK;

pub(super) struct VnniDots;

/// Runs `task` with the features on.
///
/// # Safety
/// The features must be present; the task's own contract must hold.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn run<T: DotsTask>(task: T) {
    task.run::<Avx512, VnniDots>();
}

/// Sixteen sums of four products each: eight of block `2 * pair`, then eight of the next.
#[inline(always)]
unsafe fn two(w: *const i8, x: *const i8, pair: usize) -> __m512i {
    let w = _mm512_loadu_si512(w.add(pair * 2 * BLOCK).cast());
    let x = _mm512_loadu_si512(x.add(pair * 2 * BLOCK).cast());
    let w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
    _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, x)
}

/// In every quarter, two sums of `a` and of `b` by turns.
#[inline(always)]
unsafe fn fold2(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// In every quarter, one sum of each of the four.
#[inline(always)]
unsafe fn fold4(ab: __m512i, cd: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

impl Dots for VnniDots {
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], halves: &[u8; 16]) -> [i8; BLOCK] {
        avx2::levels(table, halves)
    }

    #[inline(always)]
    unsafe fn dots(w: *const i8, x: *const i8, sums: *const i32, into: *mut f32) {
        let low = fold4(fold2(two(w, x, 0), two(w, x, 1)), fold2(two(w, x, 2), two(w, x, 3)));
        let high = fold4(fold2(two(w, x, 4), two(w, x, 5)), fold2(two(w, x, 6), two(w, x, 7)));
        // The even blocks lie in the first two quarters, the odd ones in the others.
        let all = _mm512_add_epi32(
            _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
        );
        let places = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        let all = _mm512_permutexvar_epi32(places, all);
        let excess = _mm512_slli_epi32::<7>(_mm512_loadu_si512(sums.cast()));
        _mm512_storeu_ps(into, _mm512_cvtepi32_ps(_mm512_sub_epi32(all, excess)));
    }
}
