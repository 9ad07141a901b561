//! Products of a float matrix with one, two or three activation rows, straight from the stored weights. Rows that cannot be
//! used in place are expanded a few at a time, into scratch that stays in the caches.

use std::marker::PhantomData;

use crate::compact::{Expand, GROUP, STRIPE};
use crate::lanes::{BLOCK, HALF};
use crate::outputs::Outputs;
use crate::rows::{FloatFormat, FloatReader, FloatRows};
use crate::simd::{Element, Simd, Task, load_tail, prefetch};

/// Weight rows at a time, as far apart as a task allows: separate streams keep more of the memory busy than
/// neighbours do.
const STREAMS: usize = 3;
/// Rows that are expanded side by side, at most.
const TOGETHER: usize = 3;
/// How far ahead of itself a row to be expanded is asked for, in bytes, at least. Nearer rows are on their way already.
const ROWS_AHEAD: usize = 16 << 10;
/// Columns that are expanded at a time, to be read from the first cache.
const PART: usize = 2 * STRIPE * GROUP;
/// Bytes of those, raw.
const PART_BYTES: usize = PART * 2;
/// How far ahead of itself each of several streams is asked for, in bytes.
const AHEAD: usize = 512;
/// How far ahead of itself a single stream is asked for, in bytes.
const FAR_AHEAD: usize = 2048;

/// Some rows of a weight matrix times all activation rows.
pub(crate) struct Gemv<'a, 'b, F> {
    pub(crate) outputs: Outputs<'a>,
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) expand: Expand,
    /// [`scratch_floats`] of them.
    pub(crate) scratch: &'b mut [f32],
    pub(crate) format: PhantomData<F>,
}

/// Floats of scratch that a task takes.
pub(crate) const fn scratch_floats<F: FloatFormat>() -> usize {
    if F::IN_PLACE { 0 } else { TOGETHER * PART_BYTES / size_of::<f32>() }
}

impl<F: FloatFormat> Task for Gemv<'_, '_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        debug_assert!(self.end <= self.outputs.weights.out_features());
        let rows = F::rows(&self.outputs.weights);
        // SAFETY: passed on to the caller.
        unsafe {
            match self.outputs.x_rows {
                _ if F::IN_PLACE => self.in_place::<S>(rows),
                1 => self.together::<S, 1>(rows),
                2 => self.together::<S, 2>(rows),
                _ => self.together::<S, 3>(rows),
            }
        }
    }
}

impl<F: FloatFormat> Gemv<'_, '_, F> {
    #[inline(always)]
    unsafe fn in_place<S: Simd>(&self, all: F::Rows<'_>) {
        let apart = (self.end - self.first) / STREAMS;
        // SAFETY: all rows lie in `first..end`, which lies in the matrix.
        unsafe {
            if self.outputs.x_rows == 3 && S::GROUP < HALF {
                // Three activation rows fill the registers, and take longer than the memory does.
                for row in self.first..self.end {
                    self.rows::<S, 1, 3>([row], [self.start(all, row)], 0, FAR_AHEAD);
                }
                return;
            }
            for row in self.first..self.first + apart {
                let rows = [row, row + apart, row + 2 * apart];
                let w = rows.map(|row| self.start(all, row));
                match self.outputs.x_rows {
                    2 if S::GROUP == HALF => self.rows::<S, STREAMS, 2>(rows, w, 0, AHEAD),
                    3 if S::GROUP == HALF => self.rows::<S, STREAMS, 3>(rows, w, 0, AHEAD),
                    _ => self.in_turn::<S, STREAMS>(rows, w, all.stride()),
                }
            }
            for row in self.first + STREAMS * apart..self.end {
                self.in_turn::<S, 1>([row], [self.start(all, row)], all.stride());
            }
        }
    }

    /// Where a row that is used in place begins.
    #[inline(always)]
    unsafe fn start(&self, rows: F::Rows<'_>, row: usize) -> *const u8 {
        debug_assert!(F::IN_PLACE);
        // SAFETY: no block is asked for, and such a format needs no scratch.
        unsafe { rows.row(row).next(self.expand, 0, std::ptr::null_mut(), 0) }
    }

    /// All rows, as many together as there are registers for their sums.
    #[inline(always)]
    unsafe fn together<S: Simd, const X: usize>(&mut self, rows: F::Rows<'_>) {
        // SAFETY: passed on to the caller.
        unsafe {
            let mut row = self.first;
            while S::GROUP == HALF && row + 3 <= self.end {
                self.expanded::<S, 3, X>(rows, row);
                row += 3;
            }
            while row + 2 <= self.end {
                self.expanded::<S, 2, X>(rows, row);
                row += 2;
            }
            if row < self.end {
                self.expanded::<S, 1, X>(rows, row);
            }
        }
    }

    /// Outputs `first..first + R` of all `X` activation rows, a part of the weight rows at a time.
    #[inline(always)]
    unsafe fn expanded<S: Simd, const R: usize, const X: usize>(&mut self, rows: F::Rows<'_>, first: usize) {
        let o = self.outputs;
        let columns = o.weights.in_features();
        // Whole rows of those that come after the ones at hand.
        let ahead = rows.stride() * R;
        let ahead = ahead * ROWS_AHEAD.div_ceil(ahead);
        let mut readers: [<F::Rows<'_> as FloatRows>::Reader; R] = std::array::from_fn(|i| rows.row(first + i));
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
                    w[i] = readers[i].next(self.expand, columns.div_ceil(BLOCK), scratch.add(i * PART_BYTES), ahead);
                }
                let mut x = [o.x.add(start / 2); X];
                for (i, x) in x.iter_mut().enumerate() {
                    *x = x.add(i * o.x_stride);
                }
                if X == 1 || S::GROUP == HALF {
                    accumulate::<S, F::Element, R, X>(&mut acc, w, x, o.x_stride / 2, columns, None);
                } else {
                    // There are registers for the products of one activation row.
                    for i in 0..X {
                        let mut one = [[(zero, zero)]; R];
                        for r in 0..R {
                            one[r][0] = acc[r][i];
                        }
                        accumulate::<S, F::Element, R, 1>(&mut one, w, [x[i]], o.x_stride / 2, columns, None);
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
    unsafe fn in_turn<S: Simd, const R: usize>(&self, rows: [usize; R], w: [*const u8; R], stride: usize) {
        for x_row in 0..self.outputs.x_rows {
            let ahead = if x_row == 0 { AHEAD } else { stride };
            // SAFETY: passed on to the caller.
            unsafe { self.rows::<S, R, 1>(rows, w, x_row, ahead) };
        }
    }

    /// Outputs `rows`, whose weights lie at `w`, of activation rows `x_row..x_row + X`.
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize, const X: usize>(
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
            let sums = dots::<S, F::Element, R, X>(w, x, o.x_stride / 2, o.weights.in_features(), ahead);
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
    let block_bytes = BLOCK * E::TYPE.size() as usize;
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
