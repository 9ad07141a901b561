//! AVX2: a block is one register. Two products of a byte of at most 127 without sign, or of a magnitude, and a signed one fit into 16
//! bits.
#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::super::avx2::Avx2;
use super::{Dots, DotsTask};

pub(super) struct Avx2Dots;

/// Runs `task` with the features on.
///
/// # Safety
/// The features must be present; the task's own contract must hold.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<T: DotsTask>(task: T) {
    task.run::<Avx2Dots>();
}

/// The low halves of 16 bytes, then their high ones.
#[inline(always)]
unsafe fn nibbles(p: *const u8) -> __m256i {
    let both = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.cast()));
    let halves = _mm256_srlv_epi32(both, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    _mm256_and_si256(halves, _mm256_set1_epi8(15))
}

/// The bits of words, `places` down, or up where that is negative.
#[inline(always)]
unsafe fn shifted(v: __m256i, places: i32) -> __m256i {
    if places < 0 {
        _mm256_sll_epi16(v, _mm_cvtsi32_si128(-places))
    } else {
        _mm256_srl_epi16(v, _mm_cvtsi32_si128(places))
    }
}

/// `value` in every byte whose bit is set.
#[inline(always)]
unsafe fn value_where(bits: u32, value: u8) -> __m256i {
    let quarters = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), quarters);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    _mm256_and_si256(set, _mm256_set1_epi8(value as i8))
}

#[inline(always)]
unsafe fn accumulate(sums: __m256i, w: __m256i, x: __m256i, signed: bool) -> __m256i {
    let pairs = if signed {
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
    } else {
        _mm256_maddubs_epi16(w, x)
    };
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// The sums of the first four numbers of four blocks, then those of the others.
#[inline(always)]
unsafe fn fold4(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
}

/// First halves of eight blocks, then second ones.
#[inline(always)]
unsafe fn fold8(a: [__m256i; 2], b: [__m256i; 2], c: [__m256i; 2], d: [__m256i; 2]) -> [__m256i; 2] {
    let (low, high) = (fold4(a[0], a[1], b[0], b[1]), fold4(c[0], c[1], d[0], d[1]));
    [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)]
}

#[inline(always)]
unsafe fn wide(words: __m256i) -> [__m256i; 2] {
    let low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(words));
    [low, _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(words))]
}

impl Dots for Avx2Dots {
    type S = Avx2;
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Words = [__m256i; 2];
    const BIAS: i32 = 0;
    const WIDE: bool = false;
    const NARROW: bool = true;

    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self::Bytes {
        Self::load_two(p, p.add(32))
    }
    #[inline(always)]
    unsafe fn load_two(a: *const u8, b: *const u8) -> Self::Bytes {
        [_mm256_loadu_si256(a.cast()), _mm256_loadu_si256(b.cast())]
    }
    #[inline(always)]
    unsafe fn twice(p: *const u8) -> Self::Bytes {
        [_mm256_loadu_si256(p.cast()); 2]
    }
    #[inline(always)]
    unsafe fn nibbles(a: *const u8, b: *const u8) -> Self::Bytes {
        [nibbles(a), nibbles(b)]
    }
    #[inline(always)]
    unsafe fn splat4(p: *const u8) -> Self::Bytes {
        [_mm256_set1_epi32(p.cast::<i32>().read_unaligned()); 2]
    }
    #[inline(always)]
    unsafe fn splat4_two(a: *const u8, b: *const u8) -> Self::Bytes {
        let (a, b) = (a.cast::<i32>().read_unaligned(), b.cast::<i32>().read_unaligned());
        [_mm256_set1_epi32(a), _mm256_set1_epi32(b)]
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, v: Self::Bytes) {
        _mm256_storeu_si256(p.cast(), v[0]);
        _mm256_storeu_si256(p.add(32).cast(), v[1]);
    }
    #[inline(always)]
    unsafe fn and(v: Self::Bytes, mask: u8) -> Self::Bytes {
        let mask = _mm256_set1_epi8(mask as i8);
        [_mm256_and_si256(v[0], mask), _mm256_and_si256(v[1], mask)]
    }
    #[inline(always)]
    unsafe fn or(v: Self::Bytes, w: Self::Bytes) -> Self::Bytes {
        [_mm256_or_si256(v[0], w[0]), _mm256_or_si256(v[1], w[1])]
    }
    #[inline(always)]
    unsafe fn bits(v: Self::Bytes, a: i32, b: i32, mask: u8) -> Self::Bytes {
        Self::and([shifted(v[0], a), shifted(v[1], b)], mask)
    }
    #[inline(always)]
    unsafe fn add_where(v: Self::Bytes, bits: [u32; 2], value: u8) -> Self::Bytes {
        let [first, second] = [value_where(bits[0], value), value_where(bits[1], value)];
        [_mm256_add_epi8(v[0], first), _mm256_add_epi8(v[1], second)]
    }
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], v: Self::Bytes) -> Self::Bytes {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        [_mm256_shuffle_epi8(table, v[0]), _mm256_shuffle_epi8(table, v[1])]
    }
    #[inline(always)]
    unsafe fn bias(v: Self::Bytes) -> Self::Bytes {
        v
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Ints {
        [_mm256_setzero_si256(); 2]
    }
    #[inline(always)]
    unsafe fn load_ints(p: *const i32) -> Self::Ints {
        [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())]
    }
    #[inline(always)]
    unsafe fn ints_twice(p: *const i32) -> Self::Ints {
        [_mm256_loadu_si256(p.cast()); 2]
    }
    #[inline(always)]
    unsafe fn add(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn sub(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self::Ints {
        [_mm256_set1_epi32(x); 2]
    }
    #[inline(always)]
    unsafe fn accumulate(sums: Self::Ints, w: Self::Bytes, x: Self::Bytes, signed: bool) -> Self::Ints {
        [accumulate(sums[0], w[0], x[0], signed), accumulate(sums[1], w[1], x[1], signed)]
    }
    #[inline(always)]
    unsafe fn no_words() -> Self::Words {
        Self::zero()
    }
    #[inline(always)]
    unsafe fn accumulate_words(sums: Self::Words, w: Self::Bytes, x: Self::Bytes) -> Self::Words {
        let [first, second] = [_mm256_maddubs_epi16(w[0], x[0]), _mm256_maddubs_epi16(w[1], x[1])];
        [_mm256_add_epi16(sums[0], first), _mm256_add_epi16(sums[1], second)]
    }
    #[inline(always)]
    unsafe fn add_words(sums: Self::Ints, words: Self::Words) -> Self::Ints {
        let one = _mm256_set1_epi16(1);
        Self::add(sums, [_mm256_madd_epi16(words[0], one), _mm256_madd_epi16(words[1], one)])
    }
    #[inline(always)]
    unsafe fn fold_halves(s: [Self::Ints; 8]) -> [Self::Ints; 2] {
        let (low, high) = (fold8(s[0], s[1], s[2], s[3]), fold8(s[4], s[5], s[6], s[7]));
        [[low[0], high[0]], [low[1], high[1]]]
    }
    #[inline(always)]
    unsafe fn fold(sums: [Self::Ints; 8]) -> Self::Ints {
        let [first, second] = Self::fold_halves(sums);
        Self::add(first, second)
    }
    #[inline(always)]
    unsafe fn evens_odds(bytes: [u64; 4]) -> [Self::Ints; 2] {
        let words = _mm256_set_epi64x(bytes[3] as i64, bytes[2] as i64, bytes[1] as i64, bytes[0] as i64);
        [wide(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words))), wide(_mm256_srai_epi16::<8>(words))]
    }

    #[inline(always)]
    unsafe fn floats(v: Self::Ints) -> (__m256, __m256) {
        (_mm256_cvtepi32_ps(v[0]), _mm256_cvtepi32_ps(v[1]))
    }
    #[inline(always)]
    unsafe fn byte_floats(bytes: [u64; 2]) -> (__m256, __m256) {
        let low = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes[0] as i64));
        Self::floats([low, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes[1] as i64))])
    }
    #[inline(always)]
    unsafe fn floats_twice(p: *const f32) -> (__m256, __m256) {
        let eight = _mm256_loadu_ps(p);
        (eight, eight)
    }
    #[inline(always)]
    unsafe fn splat_two(a: f32, b: f32) -> (__m256, __m256) {
        (_mm256_set1_ps(a), _mm256_set1_ps(b))
    }
    #[inline(always)]
    unsafe fn half_floats(halves: [u16; 16]) -> (__m256, __m256) {
        let h = halves;
        (
            _mm256_cvtph_ps(_mm_setr_epi16(
                h[0] as i16,
                h[1] as i16,
                h[2] as i16,
                h[3] as i16,
                h[4] as i16,
                h[5] as i16,
                h[6] as i16,
                h[7] as i16,
            )),
            _mm256_cvtph_ps(_mm_setr_epi16(
                h[8] as i16,
                h[9] as i16,
                h[10] as i16,
                h[11] as i16,
                h[12] as i16,
                h[13] as i16,
                h[14] as i16,
                h[15] as i16,
            )),
        )
    }
}
