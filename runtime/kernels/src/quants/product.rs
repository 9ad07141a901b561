//! Some rows of a quantized matrix times all activation rows.

use std::marker::PhantomData;

use super::QuantFormat;
use super::few::Few;
use super::rounded::Places;
use super::tiles::{self, Tiles};
use crate::outputs::Outputs;
use crate::simd::{Dots, DotsTask};

/// Weight rows `first..end` times all activation rows.
pub(crate) struct Product<'a, 'b, F> {
    pub(crate) outputs: Outputs<'a>,
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// [`scratch_floats`] of them.
    pub(crate) scratch: &'b mut [f32],
    pub(crate) format: PhantomData<F>,
}

/// Floats of scratch that a task takes for `rows` activation rows.
pub(crate) fn scratch_floats(rows: usize) -> usize {
    tiles::scratch_floats(Places::of(rows))
}

impl<F: QuantFormat> DotsTask for Product<'_, '_, F> {
    #[inline(always)]
    unsafe fn run<D: Dots>(self) {
        let Self { outputs, first, end, scratch, .. } = self;
        assert!(end <= outputs.weights.out_features());
        let x = outputs.quants();
        // SAFETY: the rows lie in their matrices; the rest is the caller's word.
        unsafe {
            if x.places.grouped() > 0 {
                Tiles { outputs: &outputs, x, first, end, lanes: scratch }.run::<D, F>();
            }
            if x.places.alone > 0 {
                Few { outputs: &outputs, x, first, end }.run::<D, F>();
            }
        }
    }
}
