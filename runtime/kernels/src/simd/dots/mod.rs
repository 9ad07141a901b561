//! What products of quantized weights are made of: bytes, whole numbers, and the entry points that switch an instruction set on.
//!
//! Everything is held in registers from the stored bytes to the sums: a format says in these primitives how its bytes lie.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

pub(crate) use scalar::ScalarDots;

use super::Simd;
use crate::isa::Isa;

/// 64 bytes, which are two blocks of a row or four columns of sixteen rows, and sixteen whole numbers.
///
/// # Safety
/// All methods: the instruction set must be present, and pointers must be valid for the bytes read or written (any alignment).
pub(crate) trait Dots {
    /// Sixteen f32 lanes.
    type S: Simd;
    /// 64 bytes.
    type Bytes: Copy;
    /// Sixteen whole numbers.
    type Ints: Copy;
    /// Sums of 16 bits on their way to be sixteen whole numbers.
    type Words: Copy;
    /// How much greater [`Dots::bias`] makes signed bytes.
    const BIAS: i32;
    /// Whether there are registers for sixteen [`Dots::Ints`] and some more.
    const WIDE: bool;
    /// Whether sums of 16 bits cost less than [`Dots::accumulate`].
    const NARROW: bool;

    unsafe fn load(p: *const u8) -> Self::Bytes;
    /// 32 bytes at `a`, then 32 at `b`.
    unsafe fn load_two(a: *const u8, b: *const u8) -> Self::Bytes;
    /// The same 32 bytes twice.
    unsafe fn twice(p: *const u8) -> Self::Bytes;
    /// The low halves of 16 bytes at `a`, their high halves, then those at `b`.
    unsafe fn nibbles(a: *const u8, b: *const u8) -> Self::Bytes;
    /// The same four bytes sixteen times.
    unsafe fn splat4(p: *const u8) -> Self::Bytes;
    /// Four bytes at `a` eight times, then four at `b`.
    unsafe fn splat4_two(a: *const u8, b: *const u8) -> Self::Bytes;
    unsafe fn store(p: *mut u8, v: Self::Bytes);
    unsafe fn and(v: Self::Bytes, mask: u8) -> Self::Bytes;
    unsafe fn or(v: Self::Bytes, w: Self::Bytes) -> Self::Bytes;
    /// The bits of each byte under `mask` after those of the first 32 bytes went down by `a` places and those of the others by `b`;
    /// up, where these are negative. No bit under the mask may have come from another byte.
    unsafe fn bits(v: Self::Bytes, a: i32, b: i32, mask: u8) -> Self::Bytes;
    /// Adds `value` to the bytes whose bit is set: 32 bits, then 32.
    unsafe fn add_where(v: Self::Bytes, bits: [u32; 2], value: u8) -> Self::Bytes;
    /// What bytes below sixteen stand for.
    unsafe fn levels(table: &[i8; 16], v: Self::Bytes) -> Self::Bytes;
    /// Signed bytes as [`Dots::accumulate`] wants them.
    unsafe fn bias(v: Self::Bytes) -> Self::Bytes;

    unsafe fn zero() -> Self::Ints;
    unsafe fn load_ints(p: *const i32) -> Self::Ints;
    /// The same eight numbers twice.
    unsafe fn ints_twice(p: *const i32) -> Self::Ints;
    unsafe fn add(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn sub(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn mul(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn splat(x: i32) -> Self::Ints;
    /// Adds to each number the four products of its bytes. Those of `x` are signed and above -128; those of `w` are at most 127 and
    /// have no sign, or are `signed` ones after [`Dots::bias`].
    unsafe fn accumulate(sums: Self::Ints, w: Self::Bytes, x: Self::Bytes, signed: bool) -> Self::Ints;
    unsafe fn no_words() -> Self::Words;
    /// Adds the same products, of `w` without sign, to sums of 16 bits, none of which may become greater than those hold: the products of
    /// two neighbouring bytes go to one.
    unsafe fn accumulate_words(sums: Self::Words, w: Self::Bytes, x: Self::Bytes) -> Self::Words;
    unsafe fn add_words(sums: Self::Ints, words: Self::Words) -> Self::Ints;
    /// Of eight pairs of blocks with eight numbers each: the sums of the first four numbers of each block, and of the others.
    unsafe fn fold_halves(sums: [Self::Ints; 8]) -> [Self::Ints; 2];
    /// The sums of all eight.
    unsafe fn fold(sums: [Self::Ints; 8]) -> Self::Ints;
    /// The bytes at even places of 32, signed, and those at odd ones. The first byte is the lowest.
    unsafe fn evens_odds(bytes: [u64; 4]) -> [Self::Ints; 2];

    unsafe fn floats(v: Self::Ints) -> <Self::S as Simd>::V;
    /// Sixteen bytes without sign, the lowest first.
    unsafe fn byte_floats(bytes: [u64; 2]) -> <Self::S as Simd>::V;
    /// The same eight floats twice.
    unsafe fn floats_twice(p: *const f32) -> <Self::S as Simd>::V;
    /// Eight times `a`, then eight times `b`.
    unsafe fn splat_two(a: f32, b: f32) -> <Self::S as Simd>::V;
    /// Sixteen f16.
    unsafe fn half_floats(halves: [u16; 16]) -> <Self::S as Simd>::V;
}

/// An algorithm over quantized rows that any instruction set can run.
pub(crate) trait DotsTask {
    /// # Safety
    /// `D` must be available on this machine. Implementations are `#[inline(always)]`.
    unsafe fn run<D: Dots>(self);
}

/// Runs `task` on `isa`, with what this machine has beside it for bytes.
///
/// # Safety
/// `isa` must be available on this machine, and whatever the task's own contract asks for must hold.
pub(crate) unsafe fn run_dots<T: DotsTask>(isa: Isa, task: T) {
    // SAFETY: the caller vouches for `isa` and the task.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") => {
                avx512::run(task);
            }
            // AVX-512F by itself has nothing for bytes.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 => avx2::run(task),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => neon::run_sdot(task),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::run(task),
            _ => task.run::<ScalarDots>(),
        }
    }
}

#[cfg(test)]
mod tests;
