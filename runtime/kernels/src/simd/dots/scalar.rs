//! Portable code: the definition in words of Rust.

use super::{super::Scalar, Dots};
use crate::convert::widen_f16;

pub(crate) struct ScalarDots;

type Bytes = [u8; 64];
type Ints = [i32; 16];

/// Byte `at` of `words`, the lowest first.
#[inline(always)]
fn byte(words: &[u64], at: usize) -> u8 {
    (words[at / 8] >> (at % 8 * 8)) as u8
}

impl Dots for ScalarDots {
    type S = Scalar;
    type Bytes = Bytes;
    type Ints = Ints;
    type Words = Ints;
    const BIAS: i32 = 0;
    const WIDE: bool = false;
    const NARROW: bool = false;

    #[inline(always)]
    unsafe fn load(p: *const u8) -> Bytes {
        // SAFETY: the caller's bytes.
        unsafe { p.cast::<Bytes>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_two(a: *const u8, b: *const u8) -> Bytes {
        // SAFETY: the caller's bytes.
        let [a, b] = unsafe { [a.cast::<[u8; 32]>().read(), b.cast::<[u8; 32]>().read()] };
        std::array::from_fn(|at| if at < 32 { a[at] } else { b[at - 32] })
    }
    #[inline(always)]
    unsafe fn twice(p: *const u8) -> Bytes {
        // SAFETY: the caller's bytes.
        unsafe { Self::load_two(p, p) }
    }
    #[inline(always)]
    unsafe fn nibbles(a: *const u8, b: *const u8) -> Bytes {
        // SAFETY: the caller's bytes.
        let both = unsafe { [a.cast::<[u8; 16]>().read(), b.cast::<[u8; 16]>().read()] };
        std::array::from_fn(|at| both[at / 32][at % 16] >> (at / 16 % 2 * 4) & 15)
    }
    #[inline(always)]
    unsafe fn splat4(p: *const u8) -> Bytes {
        // SAFETY: the caller's bytes.
        let four = unsafe { p.cast::<[u8; 4]>().read() };
        std::array::from_fn(|at| four[at % 4])
    }
    #[inline(always)]
    unsafe fn splat4_two(a: *const u8, b: *const u8) -> Bytes {
        // SAFETY: the caller's bytes.
        let both = unsafe { [a.cast::<[u8; 4]>().read(), b.cast::<[u8; 4]>().read()] };
        std::array::from_fn(|at| both[at / 32][at % 4])
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, v: Bytes) {
        // SAFETY: the caller's room.
        unsafe { p.cast::<Bytes>().write(v) };
    }
    #[inline(always)]
    unsafe fn and(v: Bytes, mask: u8) -> Bytes {
        v.map(|byte| byte & mask)
    }
    #[inline(always)]
    unsafe fn or(v: Bytes, w: Bytes) -> Bytes {
        std::array::from_fn(|at| v[at] | w[at])
    }
    #[inline(always)]
    unsafe fn bits(v: Bytes, a: i32, b: i32, mask: u8) -> Bytes {
        std::array::from_fn(|at| match if at < 32 { a } else { b } {
            up @ ..0 => v[at] << -up & mask,
            down => v[at] >> down & mask,
        })
    }
    #[inline(always)]
    unsafe fn add_where(v: Bytes, bits: [u32; 2], value: u8) -> Bytes {
        std::array::from_fn(|at| if bits[at / 32] >> (at % 32) & 1 == 1 { v[at].wrapping_add(value) } else { v[at] })
    }
    #[inline(always)]
    unsafe fn levels(table: &[i8; 16], v: Bytes) -> Bytes {
        v.map(|byte| table[usize::from(byte & 15)] as u8)
    }
    #[inline(always)]
    unsafe fn bias(v: Bytes) -> Bytes {
        v
    }

    #[inline(always)]
    unsafe fn zero() -> Ints {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn load_ints(p: *const i32) -> Ints {
        // SAFETY: the caller's numbers.
        unsafe { p.cast::<Ints>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn ints_twice(p: *const i32) -> Ints {
        // SAFETY: the caller's numbers.
        let eight = unsafe { p.cast::<[i32; 8]>().read_unaligned() };
        std::array::from_fn(|at| eight[at % 8])
    }
    #[inline(always)]
    unsafe fn add(a: Ints, b: Ints) -> Ints {
        std::array::from_fn(|at| a[at] + b[at])
    }
    #[inline(always)]
    unsafe fn sub(a: Ints, b: Ints) -> Ints {
        std::array::from_fn(|at| a[at] - b[at])
    }
    #[inline(always)]
    unsafe fn mul(a: Ints, b: Ints) -> Ints {
        std::array::from_fn(|at| a[at] * b[at])
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Ints {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn accumulate(sums: Ints, w: Bytes, x: Bytes, signed: bool) -> Ints {
        let weight = |at: usize| if signed { i32::from(w[at] as i8) } else { i32::from(w[at]) };
        std::array::from_fn(|sum| {
            (4 * sum..4 * sum + 4).fold(sums[sum], |sum, at| sum + weight(at) * i32::from(x[at] as i8))
        })
    }
    #[inline(always)]
    unsafe fn no_words() -> Ints {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn accumulate_words(sums: Ints, w: Bytes, x: Bytes) -> Ints {
        // SAFETY: portable code is available everywhere.
        unsafe { Self::accumulate(sums, w, x, false) }
    }
    #[inline(always)]
    unsafe fn add_words(sums: Ints, words: Ints) -> Ints {
        // SAFETY: as above.
        unsafe { Self::add(sums, words) }
    }
    #[inline(always)]
    unsafe fn fold_halves(sums: [Ints; 8]) -> [Ints; 2] {
        let half = |block: usize, half: usize| -> i32 {
            let at = block % 2 * 8 + half * 4;
            sums[block / 2][at..at + 4].iter().sum()
        };
        [std::array::from_fn(|block| half(block, 0)), std::array::from_fn(|block| half(block, 1))]
    }
    #[inline(always)]
    unsafe fn fold(sums: [Ints; 8]) -> Ints {
        std::array::from_fn(|block| sums[block / 2][block % 2 * 8..][..8].iter().sum())
    }
    #[inline(always)]
    unsafe fn evens_odds(bytes: [u64; 4]) -> [Ints; 2] {
        let signed = |at| i32::from(byte(&bytes, at) as i8);
        [std::array::from_fn(|at| signed(2 * at)), std::array::from_fn(|at| signed(2 * at + 1))]
    }

    #[inline(always)]
    unsafe fn floats(v: Ints) -> [f32; 16] {
        v.map(|int| int as f32)
    }
    #[inline(always)]
    unsafe fn byte_floats(bytes: [u64; 2]) -> [f32; 16] {
        std::array::from_fn(|at| f32::from(byte(&bytes, at)))
    }
    #[inline(always)]
    unsafe fn floats_twice(p: *const f32) -> [f32; 16] {
        // SAFETY: the caller's numbers.
        let eight = unsafe { p.cast::<[f32; 8]>().read_unaligned() };
        std::array::from_fn(|at| eight[at % 8])
    }
    #[inline(always)]
    unsafe fn splat_two(a: f32, b: f32) -> [f32; 16] {
        std::array::from_fn(|at| if at < 8 { a } else { b })
    }
    #[inline(always)]
    unsafe fn half_floats(halves: [u16; 16]) -> [f32; 16] {
        halves.map(widen_f16)
    }
}
