//! AVX-512F: sixteen lanes are one register. Only AVX-512F instructions are used.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::{Simd, Task};
use crate::isa::Isa;
use crate::lanes::TileLayout;

/// AVX-512F (with AVX2, FMA and F16C).
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// Runs `task` with the features on.
///
/// # Safety
/// The features must be present; the task's own contract must hold.
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
pub(crate) unsafe fn run<T: Task>(task: T) {
    task.run::<Avx512>();
}

/// l+8 of two rows: eight lanes of row `a`, then eight of row `b`.
#[inline(always)]
unsafe fn fold8(a: __m512, b: __m512) -> __m512 {
    // 128-bit quarters: (a0 a1 b0 b1) + (a2 a3 b2 b3).
    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b))
}

/// l+4 of four rows: four lanes of each, one row a quarter.
#[inline(always)]
unsafe fn fold4(a: __m512, b: __m512) -> __m512 {
    // (a0 a2 b0 b2) + (a1 a3 b1 b3).
    _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b))
}

/// l+2: within each quarter, two lanes of `a`'s row, then two of `b`'s.
#[inline(always)]
unsafe fn fold2(a: __m512, b: __m512) -> __m512 {
    _mm512_add_ps(_mm512_shuffle_ps::<0x44>(a, b), _mm512_shuffle_ps::<0xee>(a, b))
}

/// l+1: within each quarter, one lane of each of four rows.
#[inline(always)]
unsafe fn fold1(a: __m512, b: __m512) -> __m512 {
    _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b))
}

/// Four lanes (after l+8 and l+4) of the rows `first`, `first + 4`, `first + 8`, `first + 12`, one a quarter.
#[inline(always)]
unsafe fn quarters(rows: *const f32, first: usize) -> __m512 {
    let row = rows.add(16 * first);
    let low = fold8(_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(64)));
    let high = fold8(_mm512_loadu_ps(row.add(128)), _mm512_loadu_ps(row.add(192)));
    fold4(low, high)
}

impl Simd for Avx512 {
    type V = __m512;
    type G = __m512;
    const LAYOUT: TileLayout = TileLayout::of(Isa::Avx512);

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        _mm512_storeu_ps(p, v);
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn select_lt(x: __m512, y: __m512, a: __m512, b: __m512) -> __m512 {
        // The blend takes its second operand where the mask is set.
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y), b, a)
    }
    #[inline(always)]
    unsafe fn pow2_of_shifted(t: __m512) -> __m512 {
        let one = _mm512_castps_si512(_mm512_set1_ps(1.0));
        _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32::<23>(_mm512_castps_si512(t)), one))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> (__m512, __m512) {
        let pairs = _mm512_loadu_si512(p.cast());
        let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(_mm512_and_si512(pairs, high)))
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
        let v = _mm256_add_ps(_mm512_castps512_ps256(v), high);
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
    #[inline(always)]
    unsafe fn sums(rows: *const f32) -> __m512 {
        let r0 = quarters(rows, 0);
        let r1 = quarters(rows, 1);
        let r2 = quarters(rows, 2);
        let r3 = quarters(rows, 3);
        fold1(fold2(r0, r1), fold2(r2, r3))
    }
    #[inline(always)]
    unsafe fn store_groups(p: *mut f32, _step: usize, v: __m512) {
        _mm512_storeu_ps(p, v);
    }
    #[inline(always)]
    unsafe fn load_groups(p: *const f32, _step: usize) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn group_zero() -> __m512 {
        _mm512_setzero_ps()
    }
    #[inline(always)]
    unsafe fn group_load(p: *const f32) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn group_store(p: *mut f32, g: __m512) {
        _mm512_storeu_ps(p, g);
    }
    #[inline(always)]
    unsafe fn group_fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
}
