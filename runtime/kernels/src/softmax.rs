//! Softmax and log-sum-exp over one vector, for sampling.

use crate::kernels::Kernels;
use crate::lanes::HALF;
use crate::math::{exp, ln};
use crate::simd::{Scalar, Simd, Task, run};

impl Kernels {
    /// Softmax in place. An empty vector stays empty.
    pub fn softmax(&self, x: &mut [f32]) {
        let max = max(x);
        let mut sum = 0.0;
        // SAFETY: `isa` is available.
        unsafe { run(self.isa(), Exponentials { x, max, sum: &mut sum }) };
        x.iter_mut().for_each(|x| *x /= sum);
    }

    /// `ln(sum(exp(x)))`, without overflow; minus infinity for an empty vector.
    pub fn log_sum_exp(&self, x: &[f32]) -> f32 {
        let max = max(x);
        if max.is_infinite() {
            return max;
        }
        let mut sum = 0.0;
        // SAFETY: `isa` is available.
        unsafe { run(self.isa(), SumOfExponentials { x, max, sum: &mut sum }) };
        max + ln(sum)
    }
}

/// [`Kernels::softmax`] of a short vector, without kernels: the same bits.
pub fn softmax(x: &mut [f32]) {
    let max = max(x);
    let mut sum = 0.0;
    // SAFETY: scalar code is always available.
    unsafe { Exponentials { x, max, sum: &mut sum }.run::<Scalar>() };
    x.iter_mut().for_each(|x| *x /= sum);
}

/// The greatest element that is a number: the order of comparisons does not matter.
fn max(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |max, &x| if max < x { x } else { max })
}

/// Replaces `x` by `exp(x - max)` and sums it on sixteen lanes by `index % 16`.
struct Exponentials<'a> {
    x: &'a mut [f32],
    max: f32,
    sum: &'a mut f32,
}

impl Task for Exponentials<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: every load and store is of sixteen floats; the rest is passed on to the caller.
        unsafe {
            let max = S::splat(self.max);
            let mut acc = S::splat(0.0);
            let mut chunks = self.x.chunks_exact_mut(HALF);
            for chunk in &mut chunks {
                let e = exp::<S>(S::sub(S::load(chunk.as_ptr()), max));
                S::store(chunk.as_mut_ptr(), e);
                acc = S::add(acc, e);
            }
            let rest = chunks.into_remainder();
            if !rest.is_empty() {
                let mut lanes = [f32::NEG_INFINITY; HALF];
                lanes[..rest.len()].copy_from_slice(rest);
                let e = exp::<S>(S::sub(S::load(lanes.as_ptr()), max));
                S::store(lanes.as_mut_ptr(), e);
                rest.copy_from_slice(&lanes[..rest.len()]);
                acc = S::add(acc, e);
            }
            *self.sum = S::sum(acc);
        }
    }
}

/// The sum of [`Exponentials`] alone, in the same order.
struct SumOfExponentials<'a> {
    x: &'a [f32],
    max: f32,
    sum: &'a mut f32,
}

impl Task for SumOfExponentials<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut total = [0.0f32; HALF];
        for chunk in self.x.chunks(HALF) {
            let mut lanes = [f32::NEG_INFINITY; HALF];
            lanes[..chunk.len()].copy_from_slice(chunk);
            // SAFETY: every load and store is of sixteen floats; the rest is passed on to the caller.
            unsafe {
                let e = exp::<S>(S::sub(S::load(lanes.as_ptr()), S::splat(self.max)));
                S::store(total.as_mut_ptr(), S::add(S::load(total.as_ptr()), e));
            }
        }
        // SAFETY: sixteen floats.
        *self.sum = unsafe { S::sum(S::load(total.as_ptr())) };
    }
}
