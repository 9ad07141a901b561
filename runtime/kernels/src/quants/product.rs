//! Some rows of a quantized matrix times all activation rows.

use std::marker::PhantomData;

use super::{CHUNK, Chunk, QuantFormat, QuantRows, stored_bytes};
use crate::lanes::BLOCK;
use crate::outputs::Outputs;
use crate::simd::{Dots, DotsTask, Simd, prefetch_far};

/// Weight rows that are expanded together.
const TOGETHER: usize = 4;
/// Activation rows whose lanes are kept meanwhile: they stay in the first cache.
const KEPT_ROWS: usize = 32;
/// How far ahead of itself a row is asked for, in bytes.
const AHEAD: usize = 1024;

/// Weight rows `first..end` times all activation rows.
pub(crate) struct Product<'a, 'b, F> {
    pub(crate) outputs: Outputs<'a>,
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// [`scratch_floats`] of them.
    pub(crate) scratch: &'b mut [f32],
    pub(crate) format: PhantomData<F>,
}

/// Floats of scratch that a task takes.
pub(crate) const fn scratch_floats() -> usize {
    KEPT_ROWS * TOGETHER * CHUNK
}

impl<F: QuantFormat> DotsTask for Product<'_, '_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd, D: Dots>(self) {
        assert!(self.scratch.len() >= scratch_floats() && self.end <= self.outputs.weights.out_features());
        let rows = self.outputs.x_rows;
        let lanes = self.scratch.as_mut_ptr();
        let mut expanded = [Chunk::ZERO; TOGETHER];
        for x_row in (0..rows).step_by(KEPT_ROWS) {
            let x_rows = KEPT_ROWS.min(rows - x_row);
            for first in (self.first..self.end).step_by(TOGETHER) {
                let part = Part { outputs: &self.outputs, first, x_row, x_rows, lanes };
                // SAFETY: the rows lie in their matrices, the lanes in the scratch.
                unsafe {
                    match self.end - first {
                        1 => part.run::<S, D, F, 1>(&mut expanded),
                        2 => part.run::<S, D, F, 2>(&mut expanded),
                        3 => part.run::<S, D, F, 3>(&mut expanded),
                        _ => part.run::<S, D, F, TOGETHER>(&mut expanded),
                    }
                }
            }
        }
    }
}

/// A few weight rows from `first` on times `x_rows` activation rows from `x_row` on.
struct Part<'a> {
    outputs: &'a Outputs<'a>,
    first: usize,
    x_row: usize,
    x_rows: usize,
    /// Sixteen for each output, `[activation row][weight row]`.
    lanes: *mut f32,
}

impl Part<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, D: Dots, F: QuantFormat, const R: usize>(&self, expanded: &mut [Chunk; TOGETHER]) {
        let x = self.outputs.quants();
        let row_bytes = stored_bytes::<F>(x.blocks);
        let weights = self.outputs.weights.bytes();
        let zero = [0f32; CHUNK];
        // SAFETY: all weight rows lie in the matrix, chunks in the rows, and lanes and activations where the caller says.
        unsafe {
            for at in 0..self.x_rows * R {
                S::store(self.lanes.add(at * CHUNK), S::load(zero.as_ptr()));
            }
            for start in (0..x.blocks).step_by(CHUNK) {
                let blocks = CHUNK.min(x.blocks - start);
                let (mut scales, mut offsets) = ([[0f32; CHUNK]; R], [[0f32; CHUNK]; R]);
                for row in 0..R {
                    let at = (self.first + row) * row_bytes + stored_bytes::<F>(start);
                    let units = weights.get_unchecked(at..at + stored_bytes::<F>(blocks));
                    for line in (0..stored_bytes::<F>(CHUNK)).step_by(64) {
                        prefetch_far(units.as_ptr().wrapping_add(AHEAD + line));
                    }
                    let chunk = &mut expanded[row];
                    F::expand::<D>(units, chunk);
                    chunk.end_at(blocks);
                    let mut scale = S::load_f16(chunk.scales.as_ptr().cast());
                    if F::FACTORS {
                        scale = S::mul(scale, S::load(chunk.factors.as_ptr()));
                    }
                    S::store(scales[row].as_mut_ptr(), scale);
                    if F::OFFSETS {
                        let offset = S::load_f16(chunk.offsets.as_ptr().cast());
                        let offset = S::mul(offset, S::load(chunk.offset_factors.as_ptr()));
                        S::store(offsets[row].as_mut_ptr(), offset);
                    }
                }
                let mut ends = End::ZERO;
                for index in 0..self.x_rows {
                    let (quants, x_scales, sums) = ends.activations(&x, self.x_row + index, start, blocks);
                    let x_scale = S::load(x_scales);
                    for row in 0..R {
                        let kept = self.lanes.add((index * R + row) * CHUNK);
                        let mut dots = [0f32; CHUNK];
                        let chunk = &expanded[row];
                        D::dots(chunk.quants.as_ptr().cast(), quants, sums, dots.as_mut_ptr());
                        if F::HALVES {
                            let mut second = [0f32; CHUNK];
                            D::dots(chunk.second.as_ptr().cast(), quants, sums, second.as_mut_ptr());
                            let [factor, second_factor] = &chunk.half_factors;
                            let first = S::mul(S::load(dots.as_ptr()), S::load(factor.as_ptr()));
                            let second = S::mul(S::load(second.as_ptr()), S::load(second_factor.as_ptr()));
                            S::store(dots.as_mut_ptr(), S::add(first, second));
                        }
                        let scale = S::mul(S::load(scales[row].as_ptr()), x_scale);
                        let mut lanes = S::fma(scale, S::load(dots.as_ptr()), S::load(kept));
                        if F::OFFSETS {
                            let mut floats = [0f32; CHUNK];
                            if F::OFFSET_BYTES {
                                D::dots(chunk.second.as_ptr().cast(), quants, sums, floats.as_mut_ptr());
                            } else {
                                for (lane, float) in floats.iter_mut().enumerate() {
                                    *float = *sums.add(lane) as f32;
                                }
                            }
                            let sum = S::mul(x_scale, S::load(floats.as_ptr()));
                            lanes = S::fma(S::load(offsets[row].as_ptr()), sum, lanes);
                        }
                        S::store(kept, lanes);
                    }
                }
            }
            for index in 0..self.x_rows {
                for row in 0..R {
                    let sum = S::sum(S::load(self.lanes.add((index * R + row) * CHUNK)));
                    self.outputs.put(self.x_row + index, self.first + row, sum);
                }
            }
        }
    }
}

/// Room for the last chunk of an activation row, which may have fewer blocks than lanes.
struct End {
    quants: [i8; CHUNK * BLOCK],
    scales: [f32; CHUNK],
    sums: [i32; CHUNK],
}

impl End {
    const ZERO: Self = Self { quants: [0; CHUNK * BLOCK], scales: [0.0; CHUNK], sums: [0; CHUNK] };

    /// A chunk of activation row `row`: `blocks` blocks from `start` on, and zeros.
    ///
    /// # Safety
    /// The row has so many.
    #[inline(always)]
    unsafe fn activations(
        &mut self,
        x: &QuantRows,
        row: usize,
        start: usize,
        blocks: usize,
    ) -> (*const i8, *const f32, *const i32) {
        let at = row * x.blocks + start;
        // SAFETY: by the caller's word.
        unsafe {
            let (quants, scales, sums) = (x.quants.add(at * BLOCK), x.scales.add(at), x.sums.add(at));
            if blocks == CHUNK {
                return (quants, scales, sums);
            }
            quants.copy_to_nonoverlapping(self.quants.as_mut_ptr(), blocks * BLOCK);
            scales.copy_to_nonoverlapping(self.scales.as_mut_ptr(), blocks);
            sums.copy_to_nonoverlapping(self.sums.as_mut_ptr(), blocks);
        }
        (self.quants.as_ptr(), self.scales.as_ptr(), self.sums.as_ptr())
    }
}
