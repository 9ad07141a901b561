//! AVX2 with FMA and F16C: sixteen lanes are two registers.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::{Simd, Task};
use crate::isa::Isa;
use crate::lanes::TileLayout;

/// AVX2+FMA+F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Runs `task` with the features on.
///
/// # Safety
/// The features must be present; the task's own contract must hold.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn run<T: Task>(task: T) {
    task.run::<Avx2>();
}

/// The tree below eight lanes: l+4, l+2, l+1.
#[inline(always)]
unsafe fn sum8(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
}

/// l+4 for two rows: the low half is row `a`'s four lanes, the high half row `b`'s.
#[inline(always)]
unsafe fn fold4(a: __m256, b: __m256) -> __m256 {
    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
}

/// l+2: within each half, two lanes of `a`'s row, then two of `b`'s.
#[inline(always)]
unsafe fn fold2(a: __m256, b: __m256) -> __m256 {
    _mm256_add_ps(_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b))
}

/// l+1: within each half, one lane of each of four rows.
#[inline(always)]
unsafe fn fold1(a: __m256, b: __m256) -> __m256 {
    _mm256_add_ps(_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xdd>(a, b))
}

/// l+8 of row `row`.
#[inline(always)]
unsafe fn fold8(rows: *const f32, row: usize) -> __m256 {
    let p = rows.add(16 * row);
    _mm256_add_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8)))
}

/// The sums of eight rows of sixteen lanes.
#[inline(always)]
unsafe fn sums8(rows: *const f32) -> __m256 {
    // Row r is paired with row r + 4, so that the halves come out in order.
    let r04 = fold4(fold8(rows, 0), fold8(rows, 4));
    let r15 = fold4(fold8(rows, 1), fold8(rows, 5));
    let r26 = fold4(fold8(rows, 2), fold8(rows, 6));
    let r37 = fold4(fold8(rows, 3), fold8(rows, 7));
    fold1(fold2(r04, r15), fold2(r26, r37))
}

impl Simd for Avx2 {
    type V = (__m256, __m256);
    type G = __m256;
    const LAYOUT: TileLayout = TileLayout::of(Isa::Avx2);

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        (_mm256_set1_ps(x), _mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8)))
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        _mm256_storeu_ps(p, v.0);
        _mm256_storeu_ps(p.add(8), v.1);
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1))
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1))
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1))
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1))
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1))
    }
    #[inline(always)]
    unsafe fn select_lt(x: Self::V, y: Self::V, a: Self::V, b: Self::V) -> Self::V {
        (
            _mm256_blendv_ps(b.0, a.0, _mm256_cmp_ps::<_CMP_LT_OQ>(x.0, y.0)),
            _mm256_blendv_ps(b.1, a.1, _mm256_cmp_ps::<_CMP_LT_OQ>(x.1, y.1)),
        )
    }
    #[inline(always)]
    unsafe fn pow2_of_shifted(t: Self::V) -> Self::V {
        let one = _mm256_castps_si256(_mm256_set1_ps(1.0));
        let a = _mm256_slli_epi32::<23>(_mm256_castps_si256(t.0));
        let b = _mm256_slli_epi32::<23>(_mm256_castps_si256(t.1));
        (_mm256_castsi256_ps(_mm256_add_epi32(a, one)), _mm256_castsi256_ps(_mm256_add_epi32(b, one)))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> (Self::V, Self::V) {
        let a = _mm256_loadu_si256(p.cast());
        let b = _mm256_loadu_si256(p.add(32).cast());
        let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
        (
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b))),
            (_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_and_si256(b, high))),
        )
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self::V {
        (_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(16).cast())))
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        sum8(_mm256_add_ps(v.0, v.1))
    }
    #[inline(always)]
    unsafe fn sums(rows: *const f32) -> Self::V {
        (sums8(rows), sums8(rows.add(128)))
    }
    #[inline(always)]
    unsafe fn store_groups(p: *mut f32, step: usize, v: Self::V) {
        _mm256_storeu_ps(p, v.0);
        _mm256_storeu_ps(p.add(step), v.1);
    }
    #[inline(always)]
    unsafe fn load_groups(p: *const f32, step: usize) -> Self::V {
        (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(step)))
    }
    #[inline(always)]
    unsafe fn group_zero() -> Self::G {
        _mm256_setzero_ps()
    }
    #[inline(always)]
    unsafe fn group_load(p: *const f32) -> Self::G {
        _mm256_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn group_store(p: *mut f32, g: Self::G) {
        _mm256_storeu_ps(p, g);
    }
    #[inline(always)]
    unsafe fn group_fma(a: Self::G, b: Self::G, c: Self::G) -> Self::G {
        _mm256_fmadd_ps(a, b, c)
    }
}
