//! Linear layers: checks, and the split of one or several of them into tasks.

use std::marker::PhantomData;

use crate::compact::Expand;
use crate::gemm::{self, Gemm};
use crate::gemv::{self, Gemv};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::lanes::GEMV_ROWS;
use crate::matrix::Matrix;
use crate::outputs::{LinearJob, Outputs};
use crate::packed::PackedRows;
use crate::quants::{self, Product, QuantFormat};
use crate::rows::{FloatFormat, FormatTask, visit};
use crate::scratch;
use crate::simd::{run, run_dots};

/// Stored bytes of a GEMV task, about: small enough to share out, big enough to stream.
const TASK_BYTES: usize = 512 << 10;

/// Weight rows of a GEMM task: a few panels.
const GEMM_TASK_ROWS: usize = 64;

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
    fn part(&self, outputs: &Outputs<'_>, first: usize, end: usize) {
        visit(outputs.weights.format(), LinearPart { isa: self.isa(), outputs: *outputs, first, end });
    }
}

/// Weight rows `first..end` of one job, on an instruction set that this machine has (checked in [`Kernels::new`]); no other task
/// has them.
struct LinearPart<'a> {
    isa: Isa,
    outputs: Outputs<'a>,
    first: usize,
    end: usize,
}

impl FormatTask for LinearPart<'_> {
    type Output = ();

    fn floats<F: FloatFormat>(self) {
        let Self { isa, outputs, first, end } = self;
        let (expand, format) = (Expand::of(isa), PhantomData::<F>);
        if outputs.x_rows <= GEMV_ROWS {
            scratch::with(gemv::scratch_floats::<F>(), |scratch| {
                // SAFETY: `isa` is available; the rows lie in the matrix, and no other task has them.
                unsafe { run(isa, Gemv { outputs, first, end, expand, scratch, format }) };
            });
        } else {
            scratch::with(gemm::scratch_floats(outputs.x_rows), |scratch| {
                // SAFETY: as above.
                unsafe { run(isa, Gemm { outputs, first, end, expand, scratch, format }) };
            });
        }
    }

    fn quants<F: QuantFormat>(self) {
        let Self { isa, outputs, first, end } = self;
        scratch::with(quants::scratch_floats(outputs.x_rows), |scratch| {
            // SAFETY: as above.
            unsafe { run_dots(isa, Product { outputs, first, end, scratch, format: PhantomData::<F> }) };
        });
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
        let rows = if o.x_rows <= GEMV_ROWS { TASK_BYTES / o.weights.row_bytes() } else { GEMM_TASK_ROWS };
        // Small matrices are shared out too, in whole panels.
        let rows = rows.min(out.div_ceil(4 * threads)).max(1).next_multiple_of(gemm::PANEL);
        Self { rows, count: out.div_ceil(rows) }
    }
}
