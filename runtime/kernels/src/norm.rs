//! RMSNorm.

use crate::kernels::Kernels;
use crate::lanes::HALF;
use crate::simd::{Simd, Task, run};

/// Elements of a parallel task, at least.
const TASK_ELEMENTS: usize = 16 << 10;

impl Kernels {
    /// RMSNorm of every row (as long as `weight`) of `x` into `out`.
    ///
    /// # Panics
    /// When `x` is not whole rows, or `out` is not as long as `x`.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert!(!weight.is_empty(), "RMSNorm of empty rows");
        assert_eq!(x.len() % weight.len(), 0, "RMSNorm over whole rows of {}", weight.len());
        assert_eq!(x.len(), out.len(), "input and output of RMSNorm");
        let rows = TASK_ELEMENTS.div_ceil(weight.len());
        self.for_parts(out, rows * weight.len(), |start, out| {
            let x = &x[start..start + out.len()];
            // SAFETY: `isa` is available, and the slices are equally long.
            unsafe { run(self.isa(), Norm { x, weight, eps, out }) };
        });
    }
}

impl Kernels {
    /// The same in place, of every part of `x` as long as `weight`: rows, or heads of rows.
    ///
    /// # Panics
    /// When `x` is not whole parts.
    pub fn rms_norm_in_place(&self, x: &mut [f32], weight: &[f32], eps: f32) {
        assert!(!weight.is_empty(), "RMSNorm of empty rows");
        assert_eq!(x.len() % weight.len(), 0, "RMSNorm over whole rows of {}", weight.len());
        let rows = TASK_ELEMENTS.div_ceil(weight.len());
        self.for_parts(x, rows * weight.len(), |_, x| {
            // SAFETY: `isa` is available.
            unsafe { run(self.isa(), NormInPlace { weight, eps, x }) };
        });
    }
}

struct NormInPlace<'a> {
    weight: &'a [f32],
    eps: f32,
    x: &'a mut [f32],
}

impl Task for NormInPlace<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let n = self.weight.len();
        for x in self.x.chunks_exact_mut(n) {
            // SAFETY: passed on to the caller.
            let sum = unsafe { sum_of_squares::<S>(x) };
            let inv = 1.0 / (sum / n as f32 + self.eps).sqrt();
            for (x, weight) in x.iter_mut().zip(self.weight) {
                *x = *x * inv * weight;
            }
        }
    }
}

struct Norm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Task for Norm<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let n = self.weight.len();
        for (x, out) in self.x.chunks_exact(n).zip(self.out.chunks_exact_mut(n)) {
            // SAFETY: passed on to the caller.
            let sum = unsafe { sum_of_squares::<S>(x) };
            let inv = 1.0 / (sum / n as f32 + self.eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(self.weight) {
                *out = x * inv * weight;
            }
        }
    }
}

/// Sixteen lanes by `index % 16`, then the tree.
#[inline(always)]
unsafe fn sum_of_squares<S: Simd>(x: &[f32]) -> f32 {
    let mut chunks = x.chunks_exact(HALF);
    // SAFETY: every load is of sixteen floats.
    unsafe {
        let mut acc = S::splat(0.0);
        for chunk in &mut chunks {
            let v = S::load(chunk.as_ptr());
            acc = S::fma(v, v, acc);
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut lanes = [0.0f32; HALF];
            lanes[..rest.len()].copy_from_slice(rest);
            let v = S::load(lanes.as_ptr());
            acc = S::fma(v, v, acc);
        }
        S::sum(acc)
    }
}
