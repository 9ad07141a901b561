//! Element by element: gates, soft caps and addition.

use crate::kernels::Kernels;
use crate::lanes::HALF;
use crate::math::{capped, exp};
use crate::simd::{Simd, Task, run};

/// Elements of a parallel task: less is not worth waking a thread for.
const TASK_ELEMENTS: usize = 16 << 10;

/// What a gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `x / (1 + exp(-x))`: SwiGLU.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`: GeGLU.
    GeluTanh,
}

impl Kernels {
    /// `out = f(gate) * up`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn gated(&self, f: Gate, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert_eq!(gate.len(), out.len(), "gate and output of a gated product");
        assert_eq!(up.len(), out.len(), "up and output of a gated product");
        self.for_parts(out, TASK_ELEMENTS, |start, out| {
            let range = start..start + out.len();
            let (gate, up) = (&gate[range.clone()], &up[range]);
            // SAFETY: `isa` is available, and the slices are equally long.
            unsafe {
                match f {
                    Gate::Silu => run(self.isa(), Gated { f: Silu, gate, up, out }),
                    Gate::GeluTanh => run(self.isa(), Gated { f: GeluTanh, gate, up, out }),
                }
            }
        });
    }

    /// `x = cap * tanh(x / cap)`.
    pub fn soft_cap(&self, cap: f32, x: &mut [f32]) {
        self.for_parts(x, TASK_ELEMENTS, |_, x| {
            // SAFETY: `isa` is available.
            unsafe { run(self.isa(), SoftCap { cap, x }) };
        });
    }

    /// `x += y`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "addends");
        self.for_parts(x, 4 * TASK_ELEMENTS, |start, x| {
            for (x, y) in x.iter_mut().zip(&y[start..]) {
                *x += y;
            }
        });
    }

    /// Cuts `data` into parts of `step` elements and hands each with its start to `body`, in parallel.
    pub(crate) fn for_parts(&self, data: &mut [f32], step: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
        let len = data.len();
        let whole = Parts(data.as_mut_ptr());
        self.pool().run(len.div_ceil(step), |task| {
            let start = task * step;
            let count = step.min(len - start);
            // SAFETY: tasks are numbered once each, so the parts are disjoint; all lie in `data`.
            let part = unsafe { std::slice::from_raw_parts_mut(whole.at(start), count) };
            body(start, part);
        });
    }
}

/// The start of a slice whose parts go to different threads.
struct Parts(*mut f32);

// SAFETY: only disjoint parts are made of it.
unsafe impl Sync for Parts {}

impl Parts {
    unsafe fn at(&self, start: usize) -> *mut f32 {
        // SAFETY: the caller stays inside the slice.
        unsafe { self.0.add(start) }
    }
}

/// A function of sixteen lanes.
trait Lanes: Copy {
    /// # Safety
    /// `S` must be available.
    unsafe fn of<S: Simd>(self, x: S::V) -> S::V;
}

#[derive(Clone, Copy)]
struct Silu;

impl Lanes for Silu {
    #[inline(always)]
    unsafe fn of<S: Simd>(self, x: S::V) -> S::V {
        // SAFETY: passed on to the caller. The product with -1 is exact.
        unsafe {
            let e = exp::<S>(S::mul(x, S::splat(-1.0)));
            S::div(x, S::add(S::splat(1.0), e))
        }
    }
}

/// Twice the root of two over pi, negated, and the same times 0.044715.
const GELU: [f32; 2] = [-1.595_769, -0.071_354_814];

#[derive(Clone, Copy)]
struct GeluTanh;

impl Lanes for GeluTanh {
    /// `(1 + tanh(u)) / 2` is `1 / (1 + exp(-2 u))`.
    #[inline(always)]
    unsafe fn of<S: Simd>(self, x: S::V) -> S::V {
        // SAFETY: passed on to the caller.
        unsafe {
            let inner = S::fma(S::mul(x, x), S::splat(GELU[1]), S::splat(GELU[0]));
            S::div(x, S::add(S::splat(1.0), exp::<S>(S::mul(x, inner))))
        }
    }
}

struct Gated<'a, F> {
    f: F,
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl<F: Lanes> Task for Gated<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let whole = self.out.len() / HALF * HALF;
        let rest = self.out.len() - whole;
        // SAFETY: sixteen floats from every start below `whole` lie in the equally long slices.
        unsafe {
            for start in (0..whole).step_by(HALF) {
                let (gate, up) = (S::load(self.gate.as_ptr().add(start)), S::load(self.up.as_ptr().add(start)));
                S::store(self.out.as_mut_ptr().add(start), S::mul(self.f.of::<S>(gate), up));
            }
            if rest > 0 {
                let (mut gate, mut up) = ([0.0f32; HALF], [0.0f32; HALF]);
                gate[..rest].copy_from_slice(&self.gate[whole..]);
                up[..rest].copy_from_slice(&self.up[whole..]);
                let y = S::mul(self.f.of::<S>(S::load(gate.as_ptr())), S::load(up.as_ptr()));
                S::store(gate.as_mut_ptr(), y);
                self.out[whole..].copy_from_slice(&gate[..rest]);
            }
        }
    }
}

struct SoftCap<'a> {
    cap: f32,
    x: &'a mut [f32],
}

impl Task for SoftCap<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut chunks = self.x.chunks_exact_mut(HALF);
        // SAFETY: every load and store is of sixteen floats.
        unsafe {
            for chunk in &mut chunks {
                S::store(chunk.as_mut_ptr(), capped::<S>(S::load(chunk.as_ptr()), self.cap));
            }
            let rest = chunks.into_remainder();
            let mut lanes = [0.0f32; HALF];
            lanes[..rest.len()].copy_from_slice(rest);
            S::store(lanes.as_mut_ptr(), capped::<S>(S::load(lanes.as_ptr()), self.cap));
            rest.copy_from_slice(&lanes[..rest.len()]);
        }
    }
}
