//! Element by element: SwiGLU and addition.

use crate::kernels::Kernels;
use crate::lanes::HALF;
use crate::math::exp;
use crate::simd::{Simd, Task, run};

/// Elements of a parallel task: less is not worth waking a thread for.
const TASK_ELEMENTS: usize = 16 << 10;

impl Kernels {
    /// `out = silu(gate) * up`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn swiglu(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert_eq!(gate.len(), out.len(), "gate and output of SwiGLU");
        assert_eq!(up.len(), out.len(), "up and output of SwiGLU");
        self.for_parts(out, TASK_ELEMENTS, |start, out| {
            let range = start..start + out.len();
            let task = SwiGlu { gate: &gate[range.clone()], up: &up[range], out };
            // SAFETY: `isa` is available, and the slices are equally long.
            unsafe { run(self.isa(), task) };
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

struct SwiGlu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Task for SwiGlu<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let whole = self.out.len() / HALF * HALF;
        let rest = self.out.len() - whole;
        // SAFETY: sixteen floats from every start below `whole` lie in the equally long slices.
        unsafe {
            for start in (0..whole).step_by(HALF) {
                let (gate, up) = (S::load(self.gate.as_ptr().add(start)), S::load(self.up.as_ptr().add(start)));
                S::store(self.out.as_mut_ptr().add(start), swiglu::<S>(gate, up));
            }
            if rest > 0 {
                let (mut gate, mut up) = ([0.0f32; HALF], [0.0f32; HALF]);
                gate[..rest].copy_from_slice(&self.gate[whole..]);
                up[..rest].copy_from_slice(&self.up[whole..]);
                let y = swiglu::<S>(S::load(gate.as_ptr()), S::load(up.as_ptr()));
                S::store(gate.as_mut_ptr(), y);
                self.out[whole..].copy_from_slice(&gate[..rest]);
            }
        }
    }
}

/// `(gate / (1 + exp(-gate))) * up`.
#[inline(always)]
unsafe fn swiglu<S: Simd>(gate: S::V, up: S::V) -> S::V {
    // SAFETY: passed on to the caller. The product with -1 is exact.
    unsafe {
        let e = exp::<S>(S::mul(gate, S::splat(-1.0)));
        S::mul(S::div(gate, S::add(S::splat(1.0), e)), up)
    }
}
