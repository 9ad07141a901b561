//! AVX2: a block is one register. Bytes are multiplied as magnitude by signed number, whose pairs fit into 16 bits.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::super::{avx2::Avx2, avx512::Avx512};
use super::{Dots, DotsTask};
use crate::lanes::BLOCK;

pub(super) struct Avx2Dots;

/// Runs `task` with the features on.
///
/// # Safety
/// The features must be present; the task's own contract must hold.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<T: DotsTask>(task: T) {
    task.run::<Avx2, Avx2Dots>();
}

/// The same where all else is done by AVX-512, which has nothing for bytes.
///
/// # Safety
/// As [`run`].
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
pub(super) unsafe fn run_wide<T: DotsTask>(task: T) {
    task.run::<Avx512, Avx2Dots>();
}

/// Eight sums of four products each.
#[inline(always)]
unsafe fn block(w: *const i8, x: *const i8) -> __m256i {
    let (w, x) = (_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(x.cast()));
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// See [`Dots::levels`]: two shuffles of the table.
#[inline(always)]
pub(super) unsafe fn levels(table: &[i8; 16], halves: &[u8; 16]) -> [i8; BLOCK] {
    let (table, bytes) = (_mm_loadu_si128(table.as_ptr().cast()), _mm_loadu_si128(halves.as_ptr().cast()));
    let low = _mm_set1_epi8(15);
    let mut levels = [0; BLOCK];
    let into: *mut __m128i = levels.as_mut_ptr().cast();
    _mm_storeu_si128(into, _mm_shuffle_epi8(table, _mm_and_si128(bytes, low)));
    _mm_storeu_si128(into.add(1), _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(bytes), low)));
    levels
}

impl Dots for Avx2Dots {
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], halves: &[u8; 16]) -> [i8; BLOCK] {
        levels(table, halves)
    }

    #[inline(always)]
    unsafe fn dots(w: *const i8, x: *const i8, _sums: *const i32, into: *mut f32) {
        for four in 0..4 {
            let (w, x) = (w.add(four * 4 * BLOCK), x.add(four * 4 * BLOCK));
            let ab = _mm256_hadd_epi32(block(w, x), block(w.add(BLOCK), x.add(BLOCK)));
            let cd =
                _mm256_hadd_epi32(block(w.add(2 * BLOCK), x.add(2 * BLOCK)), block(w.add(3 * BLOCK), x.add(3 * BLOCK)));
            let halves = _mm256_hadd_epi32(ab, cd);
            let dots = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            _mm_storeu_ps(into.add(four * 4), _mm_cvtepi32_ps(dots));
        }
    }
}
