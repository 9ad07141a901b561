//! Products of a weight matrix with one, two or three activation rows, straight from the stored weights. Compact rows
//! are expanded a few at a time, into scratch that stays in the caches.

use std::slice;

use crate::compact::{CompactRows, Expand, GROUP, RowReader, STRIPE};
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
/// Compact rows that are expanded side by side, at most.
const TOGETHER: usize = 3;
/// How far ahead of itself a compact row is asked for, in bytes, at least. Nearer rows are on their way already.
const ROWS_AHEAD: usize = 16 << 10;
/// Columns of compact rows that are expanded at a time, to be read from the first cache.
const PART: usize = 2 * STRIPE * GROUP;
/// Bytes of those, raw.
const PART_BYTES: usize = PART * 2;
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
        Form::Compact(_) => TOGETHER * PART_BYTES / size_of::<f32>(),
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
            if self.outputs.x_rows == 3 && S::GROUP < HALF {
                // Three activation rows fill the registers, and take longer than the memory does.
                for row in self.first..self.end {
                    self.rows::<S, E, 1, 3>([row], [weights.add(row * stride)], 0, FAR_AHEAD);
                }
                return;
            }
            for row in self.first..self.first + apart {
                let rows = [row, row + apart, row + 2 * apart];
                let w = rows.map(|row| weights.wrapping_add(row * stride));
                match self.outputs.x_rows {
                    2 if S::GROUP == HALF => self.rows::<S, E, STREAMS, 2>(rows, w, 0, AHEAD),
                    3 if S::GROUP == HALF => self.rows::<S, E, STREAMS, 3>(rows, w, 0, AHEAD),
                    _ => self.in_turn::<S, E, STREAMS>(rows, w),
                }
            }
            for row in self.first + STREAMS * apart..self.end {
                self.in_turn::<S, E, 1>([row], [weights.add(row * stride)]);
            }
        }
    }

    #[inline(always)]
    unsafe fn compact<S: Simd, E: Element>(mut self, rows: CompactRows<'_>) {
        // SAFETY: passed on to the caller.
        unsafe {
            match self.outputs.x_rows {
                // Only bf16 has a compact form: nothing is compiled for other types.
                _ if const { !matches!(E::TYPE, ElementType::Bf16) } => {}
                1 => self.together::<S, E, 1>(rows),
                2 => self.together::<S, E, 2>(rows),
                _ => self.together::<S, E, 3>(rows),
            }
        }
    }

    /// All rows, as many together as there are registers for their sums.
    #[inline(always)]
    unsafe fn together<S: Simd, E: Element, const X: usize>(&mut self, rows: CompactRows<'_>) {
        // SAFETY: passed on to the caller.
        unsafe {
            let mut row = self.first;
            while S::GROUP == HALF && row + 3 <= self.end {
                self.expanded::<S, E, 3, X>(rows, row);
                row += 3;
            }
            while row + 2 <= self.end {
                self.expanded::<S, E, 2, X>(rows, row);
                row += 2;
            }
            if row < self.end {
                self.expanded::<S, E, 1, X>(rows, row);
            }
        }
    }

    /// Outputs `first..first + R` of all `X` activation rows, a part of the weight rows at a time.
    #[inline(always)]
    unsafe fn expanded<S: Simd, E: Element, const R: usize, const X: usize>(
        &mut self,
        rows: CompactRows<'_>,
        first: usize,
    ) {
        let o = self.outputs;
        let columns = o.weights.in_features();
        // Whole rows of those that come after the ones at hand.
        let ahead = rows.record_bytes() * R;
        let ahead = ahead * ROWS_AHEAD.div_ceil(ahead);
        let mut readers: [RowReader<'_>; R] = std::array::from_fn(|i| rows.row(first + i));
        let scratch: *mut u8 = self.scratch.as_mut_ptr().cast();
        assert!(size_of_val(self.scratch) >= R * PART_BYTES);
        // SAFETY: parts of `PART` columns lie in the scratch, which nothing else uses meanwhile, and at `start..` in the
        // activations; outputs `first..first + R` exist.
        unsafe {
            let zero = S::splat(0.0);
            let mut acc = [[(zero, zero); X]; R];
            for start in (0..columns).step_by(PART) {
                let columns = PART.min(columns - start);
                let mut w = [scratch.cast_const(); R];
                for i in 0..R {
                    let into = slice::from_raw_parts_mut(scratch.add(i * PART_BYTES), PART_BYTES);
                    readers[i].expand(self.expand, columns.div_ceil(GROUP), into, ahead);
                    w[i] = into.as_ptr();
                }
                let mut x = [o.x.add(start / 2); X];
                for (i, x) in x.iter_mut().enumerate() {
                    *x = x.add(i * o.x_stride);
                }
                if X == 1 || S::GROUP == HALF {
                    accumulate::<S, E, R, X>(&mut acc, w, x, o.x_stride / 2, columns, None);
                } else {
                    // There are registers for the products of one activation row.
                    for i in 0..X {
                        let mut one = [[(zero, zero)]; R];
                        for r in 0..R {
                            one[r][0] = acc[r][i];
                        }
                        accumulate::<S, E, R, 1>(&mut one, w, [x[i]], o.x_stride / 2, columns, None);
                        for r in 0..R {
                            acc[r][i] = one[r][0];
                        }
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                for (i, acc) in acc.iter().enumerate() {
                    o.put(i, first + r, S::sum(S::add(acc.0, acc.1)));
                }
            }
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
    let mut sums = [[0.0; X]; R];
    // SAFETY: passed on to the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut acc = [[(zero, zero); X]; R];
        accumulate::<S, E, R, X>(&mut acc, w, x, half, cols, Some(ahead));
        for r in 0..R {
            for i in 0..X {
                sums[r][i] = S::sum(S::add(acc[r][i].0, acc[r][i].1));
            }
        }
    }
    sums
}

/// Adds the products of `cols` columns to the lanes of [`dots`]. Memory `ahead` of the weights is asked for.
///
/// All loops count places, so that everything stays in registers.
#[inline(always)]
unsafe fn accumulate<S: Simd, E: Element, const R: usize, const X: usize>(
    acc: &mut [[(S::V, S::V); X]; R],
    w: [*const u8; R],
    x: [*const f32; X],
    half: usize,
    cols: usize,
    ahead: Option<usize>,
) {
    let block_bytes = BLOCK * E::TYPE.size();
    let (blocks, tail) = (cols / BLOCK, cols % BLOCK);
    // SAFETY: the caller's rows hold `cols` elements, the packed rows `cols` rounded up to whole blocks.
    unsafe {
        let zero = S::splat(0.0);
        let mut lanes = [(zero, zero); X];
        // Where registers are few, activations are loaded again for every weight row.
        let keep = S::GROUP == HALF || R * X < 3;
        let mut sums = *acc;
        for block in 0..blocks {
            if keep {
                for i in 0..X {
                    let x = x[i].add(block * HALF);
                    lanes[i] = (S::load(x), S::load(x.add(half)));
                }
            }
            for r in 0..R {
                let from = w[r].add(block * block_bytes);
                if let Some(ahead) = ahead {
                    prefetch(from.wrapping_add(ahead));
                    if block_bytes > 64 {
                        prefetch(from.wrapping_add(ahead + 64));
                    }
                }
                let (first, second) = E::load_block::<S>(from);
                for i in 0..X {
                    if !keep {
                        let x = x[i].add(block * HALF);
                        lanes[i] = (S::load(x), S::load(x.add(half)));
                    }
                    sums[r][i] = (S::fma(first, lanes[i].0, sums[r][i].0), S::fma(second, lanes[i].1, sums[r][i].1));
                }
            }
        }
        if tail > 0 {
            for r in 0..R {
                let (first, second) = load_tail::<S, E>(w[r].add(blocks * block_bytes), tail);
                for i in 0..X {
                    let x = x[i].add(blocks * HALF);
                    sums[r][i].0 = S::fma(first, S::load(x), sums[r][i].0);
                    sums[r][i].1 = S::fma(second, S::load(x.add(half)), sums[r][i].1);
                }
            }
        }
        *acc = sums;
    }
}
