//! Linear layers: checks, and the split of one or several of them into tasks.

use std::marker::PhantomData;

use crate::compact::Expand;
use crate::gemm::{self, Gemm};
use crate::gemv::{self, Gemv};
use crate::kernels::Kernels;
use crate::matrix::Matrix;
use crate::packed::{HALF, PackedRows};
use crate::scratch;
use crate::simd::{Simd, Typed, run};

/// Stored bytes of a GEMV task, about: small enough to share out, big enough to stream.
const TASK_BYTES: usize = 512 << 10;

/// Weight rows of a GEMM task: a few panels.
const GEMM_TASK_ROWS: usize = 64;

/// One matrix of [`Kernels::linear_many`].
pub struct LinearJob<'a> {
    /// The weights.
    pub weights: Matrix<'a>,
    /// Added to every row after the products, `out_features` long.
    pub bias: Option<&'a [f32]>,
    /// Where the result goes: activation rows x `out_features`.
    pub y: &'a mut [f32],
}

/// A checked job: what a task needs to compute any of its outputs.
#[derive(Clone, Copy)]
pub(crate) struct Outputs<'a> {
    pub(crate) weights: Matrix<'a>,
    bias: Option<&'a [f32]>,
    pub(crate) x: *const f32,
    pub(crate) x_stride: usize,
    pub(crate) x_rows: usize,
    y: *mut f32,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write disjoint outputs; everything else is read only.
unsafe impl Sync for Outputs<'_> {}

impl<'a> Outputs<'a> {
    fn new(job: &'a mut LinearJob<'_>, x: &'a PackedRows) -> Self {
        let (w, rows) = (job.weights, x.rows());
        assert_eq!(x.ty(), w.ty(), "activations packed for another weight type");
        assert_eq!(x.cols(), w.in_features(), "activation columns and the matrix's in_features");
        assert_eq!(Some(job.y.len()), rows.checked_mul(w.out_features()), "output of a linear layer");
        if let Some(bias) = job.bias {
            assert_eq!(bias.len(), w.out_features(), "bias of a linear layer");
        }
        Self {
            weights: w,
            bias: job.bias,
            x: x.data().as_ptr(),
            x_stride: x.stride(),
            x_rows: rows,
            y: job.y.as_mut_ptr(),
            lifetime: PhantomData,
        }
    }

    /// Writes the output of activation row `row` and weight row `out`.
    ///
    /// # Safety
    /// `row < x_rows`, `out < out_features`, and no other thread writes that output.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, row: usize, out: usize, sum: f32) {
        debug_assert!(row < self.x_rows && out < self.weights.out_features());
        // SAFETY: inside `y`, by the caller's word and the check in `new`.
        unsafe {
            let value = match self.bias {
                Some(bias) => sum + *bias.get_unchecked(out),
                None => sum,
            };
            *self.y.add(row * self.weights.out_features() + out) = value;
        }
    }

    /// Writes sixteen outputs at once.
    ///
    /// # Safety
    /// As [`Outputs::put`] for `out..out + 16`; `S` is available.
    #[inline(always)]
    pub(crate) unsafe fn put_sixteen<S: Simd>(&self, row: usize, out: usize, sums: S::V) {
        debug_assert!(row < self.x_rows && out + HALF <= self.weights.out_features());
        // SAFETY: inside `y` and the bias, by the caller's word and the check in `new`.
        unsafe {
            let value = match self.bias {
                Some(bias) => S::add(sums, S::load(bias.as_ptr().add(out))),
                None => sums,
            };
            S::store(self.y.add(row * self.weights.out_features() + out), value);
        }
    }
}

impl Kernels {
    /// `y = x W^T + bias`: `y` is activation rows x `out_features`.
    ///
    /// # Panics
    /// When the lengths do not fit each other, or `x` was packed for another weight type.
    pub fn linear(&self, w: &Matrix<'_>, x: &PackedRows, bias: Option<&[f32]>, y: &mut [f32]) {
        self.linear_many(&mut [LinearJob { weights: *w, bias, y }], x);
    }

    /// Several linear layers over the same activations as one parallel loop (q, k and v; gate and up).
    ///
    /// # Panics
    /// As [`Kernels::linear`].
    pub fn linear_many(&self, jobs: &mut [LinearJob<'_>], x: &PackedRows) {
        if !x.suits(self.isa()) {
            return self.linear_many(jobs, &x.relaid(self.isa()));
        }
        let outputs: Vec<_> = jobs.iter_mut().map(|job| Outputs::new(job, x)).collect();
        if x.rows() == 0 {
            return;
        }
        let parts: Vec<_> = outputs.iter().map(|o| Parts::new(o, self.pool().threads())).collect();
        self.pool().run(parts.iter().map(|part| part.count).sum(), |mut task| {
            for (o, part) in outputs.iter().zip(&parts) {
                if task < part.count {
                    let first = task * part.rows;
                    self.part(o, first, (first + part.rows).min(o.weights.out_features()));
                    return;
                }
                task -= part.count;
            }
        });
    }

    /// Weight rows `first..end` of one job.
    fn part(&self, o: &Outputs<'_>, first: usize, end: usize) {
        let (ty, expand) = (o.weights.ty(), Expand::of(self.isa()));
        if o.x_rows <= gemv::MAX_ROWS {
            scratch::with(gemv::scratch_floats(&o.weights), |scratch| {
                // SAFETY: `isa` is available (checked in `Kernels::new`); the rows lie in the matrix, and no other
                // task has them.
                unsafe { run(self.isa(), Typed(ty, Gemv { outputs: *o, first, end, expand, scratch })) };
            });
        } else {
            scratch::with(gemm::scratch_floats(o.x_rows), |scratch| {
                // SAFETY: as above.
                unsafe { run(self.isa(), Typed(ty, Gemm { outputs: *o, first, end, expand, scratch })) };
            });
        }
    }
}

/// How a job is cut into tasks of weight rows.
struct Parts {
    rows: usize,
    count: usize,
}

impl Parts {
    fn new(o: &Outputs<'_>, threads: usize) -> Self {
        let out = o.weights.out_features();
        let rows = if o.x_rows <= gemv::MAX_ROWS { TASK_BYTES / o.weights.row_bytes() } else { GEMM_TASK_ROWS };
        // Small matrices are shared out too, in whole panels.
        let rows = rows.min(out.div_ceil(4 * threads)).max(1).next_multiple_of(gemm::PANEL);
        Self { rows, count: out.div_ceil(rows) }
    }
}
