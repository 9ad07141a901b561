//! AVX-512 VNNI: 64 bytes are one register. The instruction multiplies bytes without sign by signed ones: weights with sign are
//! made 128 greater.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::super::avx512::Avx512;
use super::{Dots, DotsTask};

pub(super) struct VnniDots;

/// Runs `task` with the features on.
///
/// # Safety
/// The features must be present; the task's own contract must hold.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn run<T: DotsTask>(task: T) {
    task.run::<VnniDots>();
}

/// In every quarter, two sums of `a` and of `b` by turns.
#[inline(always)]
unsafe fn fold2(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// In every quarter, one sum of each of the four.
#[inline(always)]
unsafe fn fold4(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    let (ab, cd) = (fold2(a, b), fold2(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

#[inline(always)]
unsafe fn two_halves(a: __m256i, b: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
}

#[inline(always)]
unsafe fn words(bytes: [u64; 4]) -> __m256i {
    _mm256_set_epi64x(bytes[3] as i64, bytes[2] as i64, bytes[1] as i64, bytes[0] as i64)
}

impl Dots for VnniDots {
    type S = Avx512;
    type Bytes = __m512i;
    type Ints = __m512i;
    type Words = __m512i;
    const BIAS: i32 = 128;
    const WIDE: bool = true;
    const NARROW: bool = false;

    #[inline(always)]
    unsafe fn load(p: *const u8) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn load_two(a: *const u8, b: *const u8) -> __m512i {
        two_halves(_mm256_loadu_si256(a.cast()), _mm256_loadu_si256(b.cast()))
    }
    #[inline(always)]
    unsafe fn twice(p: *const u8) -> __m512i {
        _mm512_broadcast_i64x4(_mm256_loadu_si256(p.cast()))
    }
    #[inline(always)]
    unsafe fn nibbles(a: *const u8, b: *const u8) -> __m512i {
        let both = _mm512_broadcast_i32x4(_mm_loadu_si128(a.cast()));
        let both = _mm512_mask_broadcast_i32x4(both, 0xff00, _mm_loadu_si128(b.cast()));
        let places = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
        _mm512_and_si512(_mm512_srlv_epi32(both, places), _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn splat4(p: *const u8) -> __m512i {
        _mm512_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn splat4_two(a: *const u8, b: *const u8) -> __m512i {
        let (a, b) = (a.cast::<i32>().read_unaligned(), b.cast::<i32>().read_unaligned());
        two_halves(_mm256_set1_epi32(a), _mm256_set1_epi32(b))
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, v: __m512i) {
        _mm512_storeu_si512(p.cast(), v);
    }
    #[inline(always)]
    unsafe fn and(v: __m512i, mask: u8) -> __m512i {
        _mm512_and_si512(v, _mm512_set1_epi8(mask as i8))
    }
    #[inline(always)]
    unsafe fn or(v: __m512i, w: __m512i) -> __m512i {
        _mm512_or_si512(v, w)
    }
    #[inline(always)]
    unsafe fn bits(v: __m512i, a: i32, b: i32, mask: u8) -> __m512i {
        // Places go round: what is wanted comes out right in either direction.
        let places = two_halves(_mm256_set1_epi32(a & 31), _mm256_set1_epi32(b & 31));
        Self::and(_mm512_rorv_epi32(v, places), mask)
    }
    #[inline(always)]
    unsafe fn add_where(v: __m512i, bits: [u32; 2], value: u8) -> __m512i {
        let mask = u64::from(bits[0]) | u64::from(bits[1]) << 32;
        _mm512_mask_add_epi8(v, mask, v, _mm512_set1_epi8(value as i8))
    }
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], v: __m512i) -> __m512i {
        _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), v)
    }
    #[inline(always)]
    unsafe fn bias(v: __m512i) -> __m512i {
        _mm512_xor_si512(v, _mm512_set1_epi8(-128))
    }

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        _mm512_setzero_si512()
    }
    #[inline(always)]
    unsafe fn load_ints(p: *const i32) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn ints_twice(p: *const i32) -> __m512i {
        Self::twice(p.cast())
    }
    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m512i, b: __m512i) -> __m512i {
        _mm512_sub_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512i, b: __m512i) -> __m512i {
        _mm512_mullo_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> __m512i {
        _mm512_set1_epi32(x)
    }
    #[inline(always)]
    unsafe fn accumulate(sums: __m512i, w: __m512i, x: __m512i, _signed: bool) -> __m512i {
        _mm512_dpbusd_epi32(sums, w, x)
    }
    #[inline(always)]
    unsafe fn no_words() -> __m512i {
        Self::zero()
    }
    #[inline(always)]
    unsafe fn accumulate_words(sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        Self::accumulate(sums, w, x, false)
    }
    #[inline(always)]
    unsafe fn add_words(sums: __m512i, words: __m512i) -> __m512i {
        Self::add(sums, words)
    }
    #[inline(always)]
    unsafe fn fold_halves(s: [__m512i; 8]) -> [__m512i; 2] {
        // In each: first halves of even blocks, second halves of them, first halves of odd blocks, second halves.
        let (low, high) = (fold4(s[0], s[1], s[2], s[3]), fold4(s[4], s[5], s[6], s[7]));
        let first = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 16, 24, 17, 25, 18, 26, 19, 27);
        let second = _mm512_setr_epi32(4, 12, 5, 13, 6, 14, 7, 15, 20, 28, 21, 29, 22, 30, 23, 31);
        [_mm512_permutex2var_epi32(low, first, high), _mm512_permutex2var_epi32(low, second, high)]
    }
    #[inline(always)]
    unsafe fn fold(sums: [__m512i; 8]) -> __m512i {
        let [first, second] = Self::fold_halves(sums);
        _mm512_add_epi32(first, second)
    }
    #[inline(always)]
    unsafe fn evens_odds(bytes: [u64; 4]) -> [__m512i; 2] {
        let words = words(bytes);
        let evens = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words));
        [_mm512_cvtepi16_epi32(evens), _mm512_cvtepi16_epi32(_mm256_srai_epi16::<8>(words))]
    }

    #[inline(always)]
    unsafe fn floats(v: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(v)
    }
    #[inline(always)]
    unsafe fn byte_floats(bytes: [u64; 2]) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_set_epi64x(bytes[1] as i64, bytes[0] as i64)))
    }
    #[inline(always)]
    unsafe fn floats_twice(p: *const f32) -> __m512 {
        _mm512_castsi512_ps(Self::twice(p.cast()))
    }
    #[inline(always)]
    unsafe fn splat_two(a: f32, b: f32) -> __m512 {
        let (a, b) = (_mm256_set1_ps(a), _mm256_set1_ps(b));
        _mm512_castsi512_ps(two_halves(_mm256_castps_si256(a), _mm256_castps_si256(b)))
    }
    #[inline(always)]
    unsafe fn half_floats(halves: [u16; 16]) -> __m512 {
        let h = halves;
        _mm512_cvtph_ps(_mm256_setr_epi16(
            h[0] as i16,
            h[1] as i16,
            h[2] as i16,
            h[3] as i16,
            h[4] as i16,
            h[5] as i16,
            h[6] as i16,
            h[7] as i16,
            h[8] as i16,
            h[9] as i16,
            h[10] as i16,
            h[11] as i16,
            h[12] as i16,
            h[13] as i16,
            h[14] as i16,
            h[15] as i16,
        ))
    }
}
