//! The dozen primitives that differ between instruction sets, and the entry points that switch one on.
//!
//! An algorithm is a [`Task`]: `run::<S>` is `#[inline(always)]` all the way down, so that it is compiled inside
//! the one `#[target_feature]` function per instruction set below, where the intrinsics become instructions.
//! Closures are avoided in those bodies: they would not inherit the features.

mod dots;
mod element;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use lime_plan::Dtype;

use crate::isa::Isa;
use crate::lanes::TileLayout;
pub(crate) use dots::{Dots, DotsTask, ScalarDots, run_dots};
pub(crate) use element::{Element, StoredBf16, StoredF16, StoredF32, load_tail};
pub(crate) use scalar::Scalar;

/// Sixteen f32 lanes (`V`) and the part of them that one register holds (`G`, a lane group).
///
/// # Safety
/// All methods: the instruction set must be present, and pointers must be valid for the lanes read or written
/// (any alignment).
pub(crate) trait Simd: Copy + 'static {
    /// Sixteen f32 lanes.
    type V: Copy;
    /// One register of f32 lanes.
    type G: Copy;
    /// Lanes of `G`, and activation rows of a GEMM tile: 3 where there are 16 registers, 6 where there are 32.
    const LAYOUT: TileLayout;
    /// Lanes of `G`: 4, 8 or 16.
    const GROUP: usize = Self::LAYOUT.group;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `x < y ? a : b` for each lane; false where either is NaN.
    unsafe fn select_lt(x: Self::V, y: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// `2^n` for lanes that hold `1.5 * 2^23 + n`, n from -126 to 127.
    unsafe fn pow2_of_shifted(t: Self::V) -> Self::V;
    /// Thirty-two bf16 values as f32: those at even places and those at odd places.
    unsafe fn load_bf16(p: *const u8) -> (Self::V, Self::V);
    /// Sixteen f16 values as f32.
    unsafe fn load_f16(p: *const u8) -> Self::V;
    /// The tree: l+8, l+4, l+2, l+1.
    unsafe fn sum(v: Self::V) -> f32;
    /// [`Simd::sum`] of sixteen rows of sixteen lanes, one result per lane.
    unsafe fn sums(rows: *const f32) -> Self::V;

    /// Stores the registers of `v` `step` floats apart.
    unsafe fn store_groups(p: *mut f32, step: usize, v: Self::V);
    /// Undoes [`Simd::store_groups`].
    unsafe fn load_groups(p: *const f32, step: usize) -> Self::V;
    unsafe fn group_zero() -> Self::G;
    unsafe fn group_load(p: *const f32) -> Self::G;
    unsafe fn group_store(p: *mut f32, g: Self::G);
    unsafe fn group_fma(a: Self::G, b: Self::G, c: Self::G) -> Self::G;
}

/// Asks for the cache line at `p`, which may lie anywhere: a hint, which never faults.
#[inline(always)]
pub(crate) fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE; the hint touches no memory.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the hint touches no memory.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}

/// As [`prefetch`], but no further than into the second cache: fewer lines can be on their way to the first one than it
/// takes to keep the memory busy.
#[inline(always)]
pub(crate) fn prefetch_far(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE; the hint touches no memory.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the hint touches no memory.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}

/// An algorithm that any instruction set can run.
pub(crate) trait Task {
    /// # Safety
    /// `S` must be available on this machine. Implementations are `#[inline(always)]`.
    unsafe fn run<S: Simd>(self);
}

/// Runs `task` on `isa`.
///
/// # Safety
/// `isa` must be available on this machine, and whatever the task's own contract asks for must hold.
pub(crate) unsafe fn run<T: Task>(isa: Isa, task: T) {
    // SAFETY: the caller vouches for `isa` and the task.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::run(task),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run(task),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::run(task),
            _ => task.run::<Scalar>(),
        }
    }
}

/// An algorithm over matrices or KV entries of some stored type.
pub(crate) trait TypedTask {
    /// # Safety
    /// As [`Task::run`]; pointers must hold elements of type `E`.
    unsafe fn run<S: Simd, E: Element>(self);
}

/// Makes a [`Task`] of a [`TypedTask`] and the type chosen at run time.
pub(crate) struct Typed<T>(pub(crate) Dtype, pub(crate) T);

impl<T: TypedTask> Task for Typed<T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on to the caller.
        unsafe {
            match self.0 {
                Dtype::Bf16 => self.1.run::<S, StoredBf16>(),
                Dtype::F16 => self.1.run::<S, StoredF16>(),
                Dtype::F32 => self.1.run::<S, StoredF32>(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
