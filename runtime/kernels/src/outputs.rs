//! One product of a linear layer, checked, and where its outputs go.

use std::marker::PhantomData;

use crate::lanes::HALF;
use crate::matrix::Matrix;
use crate::packed::{Operand, PackedRows};
use crate::quants::QuantRows;
use crate::simd::Simd;

/// One matrix of [`Kernels::linear_many`](crate::Kernels::linear_many).
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
    /// The activations in f32 lanes; none where they are rounded.
    pub(crate) x: *const f32,
    pub(crate) x_stride: usize,
    pub(crate) x_rows: usize,
    packed: &'a PackedRows,
    y: *mut f32,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write disjoint outputs; everything else is read only.
unsafe impl Sync for Outputs<'_> {}

impl<'a> Outputs<'a> {
    pub(crate) fn new(job: &'a mut LinearJob<'_>, x: &'a PackedRows) -> Self {
        let (w, rows) = (job.weights, x.rows());
        assert_eq!(x.operand(), Operand::from(w.format()), "activations packed for another weight type");
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
            packed: x,
            y: job.y.as_mut_ptr(),
            lifetime: PhantomData,
        }
    }

    /// The activations as bytes.
    #[inline(always)]
    pub(crate) fn quants(&self) -> QuantRows {
        self.packed.quants()
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
