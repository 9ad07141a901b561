//! Products of a weight matrix with one, two or three activation rows, straight from the stored weights. Compact rows
//! are expanded a few at a time, into scratch that stays in the caches.

use std::slice;

use crate::compact::{CompactRows, Expand, GROUP};
use crate::element::ElementType;
use crate::linear::Outputs;
use crate::matrix::{Form, Matrix};
use crate::packed::{BLOCK, HALF};
use crate::simd::{Element, Simd, TypedTask, load_tail, prefetch};

/// Activation rows up to which the weights are read straight from memory.
pub(crate) const MAX_ROWS: usize = 3;

/// Weight rows at a time, as far apart as a task allows: separate streams keep more of the memory busy than
/// neighbours do.
const STREAMS: usize = 3;
/// How far ahead of itself each of several streams is asked for, in bytes.
const AHEAD: usize = 512;
/// How far ahead of itself a single stream is asked for, in bytes.
const FAR_AHEAD: usize = 2048;

/// Some rows of a weight matrix times all activation rows.
pub(crate) struct Gemv<'a, 'b> {
    pub(crate) outputs: Outputs<'a>,
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) expand: Expand,
    /// [`scratch_floats`] of them.
    pub(crate) scratch: &'b mut [f32],
}

/// Floats of scratch that a task on `weights` takes.
pub(crate) fn scratch_floats(weights: &Matrix<'_>) -> usize {
    match weights.form() {
        Form::Raw(_) => 0,
        Form::Compact(rows) => STREAMS * rows.padded() * 2 / size_of::<f32>(),
    }
}

impl TypedTask for Gemv<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd, E: Element>(self) {
        debug_assert!(self.end <= self.outputs.weights.out_features());
        // SAFETY: passed on to the caller.
        unsafe {
            match self.outputs.weights.form() {
                Form::Raw(bytes) => self.raw::<S, E>(bytes.as_ptr()),
                Form::Compact(rows) => self.compact::<S, E>(rows),
            }
        }
    }
}

impl Gemv<'_, '_> {
    #[inline(always)]
    unsafe fn raw<S: Simd, E: Element>(&self, weights: *const u8) {
        let stride = self.outputs.weights.row_bytes();
        let apart = (self.end - self.first) / STREAMS;
        // SAFETY: all rows lie in `first..end`, which lies in the matrix.
        unsafe {
            if self.outputs.x_rows == 3 {
                // Three activation rows fill the registers, and take longer than the memory does.
                for row in self.first..self.end {
                    self.rows::<S, E, 1, 3>([row], [weights.add(row * stride)], 0, FAR_AHEAD);
                }
                return;
            }
            for row in self.first..self.first + apart {
                let rows = [row, row + apart, row + 2 * apart];
                self.in_turn::<S, E, STREAMS>(rows, rows.map(|row| weights.wrapping_add(row * stride)));
            }
            for row in self.first + STREAMS * apart..self.end {
                self.in_turn::<S, E, 1>([row], [weights.add(row * stride)]);
            }
        }
    }

    #[inline(always)]
    unsafe fn compact<S: Simd, E: Element>(self, rows: CompactRows<'_>) {
        debug_assert!(E::TYPE == ElementType::Bf16);
        let scratch: *mut u8 = self.scratch.as_mut_ptr().cast();
        // SAFETY: f32 elements are plain bytes.
        let bytes = unsafe { slice::from_raw_parts_mut(scratch, size_of_val(self.scratch)) };
        let padded = rows.padded() * 2;
        let mut row = self.first;
        while row < self.end {
            let count = STREAMS.min(self.end - row);
            for (i, into) in bytes.chunks_exact_mut(padded).take(count).enumerate() {
                rows.row(row + i).expand(self.expand, rows.padded() / GROUP, into);
            }
            // SAFETY: the rows were expanded just now; outputs `row..row + count` exist.
            unsafe {
                if count == STREAMS && self.outputs.x_rows < 3 {
                    let w = [0, 1, 2].map(|i| scratch.cast_const().wrapping_add(i * padded));
                    self.in_turn::<S, E, STREAMS>([row, row + 1, row + 2], w);
                } else {
                    for i in 0..count {
                        let w = [scratch.cast_const().add(i * padded)];
                        match self.outputs.x_rows {
                            3 => self.rows::<S, E, 1, 3>([row + i], w, 0, 0),
                            _ => self.in_turn::<S, E, 1>([row + i], w),
                        }
                    }
                }
            }
            row += count;
        }
    }

    /// Outputs `rows`, whose weights lie at `w`, of every activation row. Only the first activation row waits for the
    /// memory; the next finds the weights in the cache, and asks for the streams' next rows meanwhile.
    #[inline(always)]
    unsafe fn in_turn<S: Simd, E: Element, const R: usize>(&self, rows: [usize; R], w: [*const u8; R]) {
        for x_row in 0..self.outputs.x_rows {
            let ahead = if x_row == 0 { AHEAD } else { self.outputs.weights.row_bytes() };
            // SAFETY: passed on to the caller.
            unsafe { self.rows::<S, E, R, 1>(rows, w, x_row, ahead) };
        }
    }

    /// Outputs `rows`, whose weights lie at `w`, of activation rows `x_row..x_row + X`.
    #[inline(always)]
    unsafe fn rows<S: Simd, E: Element, const R: usize, const X: usize>(
        &self,
        rows: [usize; R],
        w: [*const u8; R],
        x_row: usize,
        ahead: usize,
    ) {
        let o = &self.outputs;
        // SAFETY: `rows` are rows of the matrix, `x_row..` of the activations; the pointers stay in them.
        unsafe {
            let mut x = [o.x; X];
            for (i, x) in x.iter_mut().enumerate() {
                *x = x.add((x_row + i) * o.x_stride);
            }
            let sums = dots::<S, E, R, X>(w, x, o.x_stride / 2, o.weights.in_features(), ahead);
            for (row, sums) in rows.into_iter().zip(sums) {
                for (i, sum) in sums.into_iter().enumerate() {
                    o.put(x_row + i, row, sum);
                }
            }
        }
    }
}

/// Canonical dot products of `R` stored rows with `X` packed rows whose `second` half lies `half` elements on.
#[inline(always)]
unsafe fn dots<S: Simd, E: Element, const R: usize, const X: usize>(
    w: [*const u8; R],
    x: [*const f32; X],
    half: usize,
    cols: usize,
    ahead: usize,
) -> [[f32; X]; R] {
    let block_bytes = BLOCK * E::TYPE.size();
    let (blocks, tail) = (cols / BLOCK, cols % BLOCK);
    // SAFETY: the caller's rows hold `cols` elements, the packed rows `cols` rounded up to whole blocks.
    unsafe {
        let mut acc = [[(S::splat(0.0), S::splat(0.0)); X]; R];
        for block in 0..blocks {
            for (acc, w) in acc.iter_mut().zip(w) {
                let from = w.add(block * block_bytes);
                prefetch(from.wrapping_add(ahead));
                if block_bytes > 64 {
                    prefetch(from.wrapping_add(ahead + 64));
                }
                let (first, second) = E::load_block::<S>(from);
                for (acc, x) in acc.iter_mut().zip(x) {
                    let x = x.add(block * HALF);
                    acc.0 = S::fma(first, S::load(x), acc.0);
                    acc.1 = S::fma(second, S::load(x.add(half)), acc.1);
                }
            }
        }
        if tail > 0 {
            for (acc, w) in acc.iter_mut().zip(w) {
                let (first, second) = load_tail::<S, E>(w.add(blocks * block_bytes), tail);
                for (acc, x) in acc.iter_mut().zip(x) {
                    let x = x.add(blocks * HALF);
                    acc.0 = S::fma(first, S::load(x), acc.0);
                    acc.1 = S::fma(second, S::load(x.add(half)), acc.1);
                }
            }
        }
        let mut sums = [[0.0; X]; R];
        for (sums, acc) in sums.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
            *sums = S::sum(S::add(acc.0, acc.1));
        }
        sums
    }
}
