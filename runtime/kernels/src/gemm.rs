//! Products of a float matrix with many activation rows.
//!
//! The 32 lanes of an output are independent until the final tree, so k is swept once per *lane group* (what one
//! register holds). A panel of weight rows is converted once to f32, group by group, into scratch that fits the
//! caches; register tiles of weight rows x activation rows sweep it; the lanes of each output are parked in scratch
//! between sweeps of k; at the end the tree folds sixteen outputs at a time.

use std::marker::PhantomData;

use crate::compact::Expand;
use crate::lanes::{BLOCK, HALF};
use crate::outputs::Outputs;
use crate::rows::{FloatFormat, FloatReader, FloatRows};
use crate::simd::{Element, Simd, Task, load_tail, prefetch_far};

/// Weight rows of a panel: one [`Simd::sums`].
pub(crate) const PANEL: usize = HALF;
/// Weight rows of a register tile.
const TILE: usize = 4;
/// Activation rows whose lanes are parked at a time, about; a multiple of every tile's rows.
const PARKED_ROWS: usize = 132;
/// Lanes of an output.
const LANES: usize = 2 * HALF;
/// Blocks of a round of a tile's loop.
const UNROLL: usize = 4;
/// Blocks of the longest sweep.
const SWEEP: usize = 64;
/// Bytes of a sweep's part of a row that is expanded before it is converted.
const PART_BYTES: usize = SWEEP * BLOCK * 2;

/// Some rows of a weight matrix times all activation rows.
pub(crate) struct Gemm<'a, 'b, F> {
    pub(crate) outputs: Outputs<'a>,
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) expand: Expand,
    /// [`scratch_floats`] of them.
    pub(crate) scratch: &'b mut [f32],
    pub(crate) format: PhantomData<F>,
}

/// Floats of scratch that a task takes for `rows` activation rows.
pub(crate) fn scratch_floats(rows: usize) -> usize {
    PANEL * SWEEP * BLOCK + rows.min(PARKED_ROWS) * PANEL * LANES + PANEL * HALF + PART_BYTES / size_of::<f32>()
}

impl<F: FloatFormat> Task for Gemm<'_, '_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let rows = self.outputs.x_rows;
        assert!(self.scratch.len() >= scratch_floats(rows) && S::LAYOUT.sweep() <= SWEEP);
        let (panel, rest) = self.scratch.split_at_mut(PANEL * SWEEP * BLOCK);
        let (lanes, rest) = rest.split_at_mut(PANEL * HALF);
        let (part, parked) = rest.split_at_mut(PART_BYTES / size_of::<f32>());
        let all = F::rows(&self.outputs.weights);
        let work = PanelProduct::<F> {
            outputs: self.outputs,
            rows: all,
            panel: panel.as_mut_ptr(),
            parked: parked.as_mut_ptr(),
            lanes: lanes.as_mut_ptr(),
            expand: self.expand,
            ahead: PANEL * all.stride(),
            part: part.as_mut_ptr().cast(),
        };
        for x_row in (0..rows).step_by(PARKED_ROWS) {
            let x_rows = PARKED_ROWS.min(rows - x_row);
            for first in (self.first..self.end).step_by(PANEL) {
                let w_rows = PANEL.min(self.end - first);
                // SAFETY: both ranges lie in their matrices; the scratch has the lengths asserted above.
                unsafe { work.panel::<S>(first, w_rows, x_row, x_rows) };
            }
        }
    }
}

struct PanelProduct<'a, F: FloatFormat> {
    outputs: Outputs<'a>,
    rows: F::Rows<'a>,
    /// Weights as `[group][tile][block][row of tile][lane of group]`.
    panel: *mut f32,
    /// Lanes as `[group][tile of activation rows][weight row][activation row of tile][lane of group]`.
    parked: *mut f32,
    /// Sixteen rows on their way into the tree.
    lanes: *mut f32,
    expand: Expand,
    /// How far ahead of itself a row is asked for, in bytes: the next panel's row.
    ahead: usize,
    /// [`PART_BYTES`] of a row that is expanded.
    part: *mut u8,
}

impl<F: FloatFormat> PanelProduct<'_, F> {
    /// Weight rows `first..first + w_rows` times activation rows `x_row..x_row + x_rows`.
    #[inline(always)]
    unsafe fn panel<S: Simd>(&self, first: usize, w_rows: usize, x_row: usize, x_rows: usize) {
        let total = self.outputs.x_stride / BLOCK;
        let tiles = w_rows.div_ceil(TILE);
        let parked_plane = x_rows * PANEL * S::GROUP;
        // Rows that only fill a tile repeat the last one; their sums are never used.
        let mut readers: [<F::Rows<'_> as FloatRows>::Reader; PANEL] =
            std::array::from_fn(|row| self.rows.row(first + row.min(w_rows - 1)));
        // SAFETY: passed on; blocks lie in the rows, groups in a block, tiles of rows in the activations.
        unsafe {
            for start in (0..total).step_by(S::LAYOUT.sweep()) {
                let blocks = S::LAYOUT.sweep().min(total - start);
                for (row, reader) in readers.iter_mut().enumerate().take(tiles * TILE) {
                    let from = reader.next(self.expand, blocks, self.part, self.ahead);
                    self.convert::<S>(from, row, start, blocks);
                }
                for group in 0..LANES / S::GROUP {
                    let panel = self.panel.add(group * PANEL * SWEEP * S::GROUP);
                    let parked = self.parked.add(group * parked_plane);
                    // See `PackedRows` for where a group, a sweep and a tile begin.
                    let x = (group * total + start) * self.outputs.x_rows + x_row * blocks;
                    let x = self.outputs.x.add(x * S::GROUP);
                    for row in (0..x_rows).step_by(S::LAYOUT.rows) {
                        let sweep = Sweep {
                            panel,
                            x: x.add(row * blocks * S::GROUP),
                            parked: parked.add(row * PANEL * S::GROUP),
                            blocks,
                            tiles,
                            fresh: start == 0,
                        };
                        sweep.rows::<S>(S::LAYOUT.rows.min(x_rows - row));
                    }
                }
            }
            for row in (0..x_rows).step_by(S::LAYOUT.rows) {
                let height = S::LAYOUT.rows.min(x_rows - row);
                let parked = self.parked.add(row * PANEL * S::GROUP);
                for i in 0..height {
                    let lanes = parked.add(i * S::GROUP);
                    self.fold::<S>(lanes, height * S::GROUP, parked_plane, x_row + row + i, first, w_rows);
                }
            }
        }
    }

    /// Converts `blocks` blocks of one weight row, the first of them at `from`, to f32 and deals them out to the groups.
    #[inline(always)]
    unsafe fn convert<S: Simd>(&self, mut from: *const u8, row: usize, start: usize, blocks: usize) {
        let weights = &self.outputs.weights;
        let whole = weights.in_features() / BLOCK;
        let step = TILE * S::GROUP;
        let plane = PANEL * SWEEP * S::GROUP;
        // SAFETY: the row lies in the matrix; whole blocks are counted, the last one is read as a tail.
        unsafe {
            let mut to = self.panel.add((row / TILE * blocks * TILE + row % TILE) * S::GROUP);
            for _ in start..(start + blocks).min(whole) {
                if F::IN_PLACE {
                    prefetch_far(from.wrapping_add(self.ahead));
                    if F::Element::TYPE.size() as usize > 2 {
                        prefetch_far(from.wrapping_add(self.ahead + 64));
                    }
                }
                let (first, second) = F::Element::load_block::<S>(from);
                S::store_groups(to, plane, first);
                S::store_groups(to.add(plane * (HALF / S::GROUP)), plane, second);
                from = from.add(BLOCK * F::Element::TYPE.size() as usize);
                to = to.add(step);
            }
            if start + blocks > whole {
                let (first, second) = load_tail::<S, F::Element>(from, weights.in_features() % BLOCK);
                S::store_groups(to, plane, first);
                S::store_groups(to.add(plane * (HALF / S::GROUP)), plane, second);
            }
        }
    }

    /// Folds the parked lanes of sixteen outputs of activation row `x_row` and writes them. Weight rows lie `step`
    /// apart, groups `plane`.
    #[inline(always)]
    unsafe fn fold<S: Simd>(
        &self,
        mut parked: *const f32,
        step: usize,
        plane: usize,
        x_row: usize,
        first: usize,
        w_rows: usize,
    ) {
        // SAFETY: the rows were parked before; outputs `first..first + w_rows` exist.
        unsafe {
            for row in 0..PANEL {
                let second = parked.add(plane * (HALF / S::GROUP));
                let sum = S::add(S::load_groups(parked, plane), S::load_groups(second, plane));
                S::store(self.lanes.add(row * HALF), sum);
                parked = parked.add(step);
            }
            let sums = S::sums(self.lanes);
            if w_rows == PANEL {
                self.outputs.put_sixteen::<S>(x_row, first, sums);
            } else {
                S::store(self.lanes, sums);
                for row in 0..w_rows {
                    self.outputs.put(x_row, first + row, *self.lanes.add(row));
                }
            }
        }
    }
}

/// All tiles of a panel over one tile of activation rows, one lane group, some blocks of k.
struct Sweep {
    panel: *const f32,
    x: *const f32,
    parked: *mut f32,
    blocks: usize,
    tiles: usize,
    fresh: bool,
}

impl Sweep {
    #[inline(always)]
    unsafe fn rows<S: Simd>(&self, rows: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            match rows {
                1 => self.tiles::<S, 1>(),
                2 => self.tiles::<S, 2>(),
                3 => self.tiles::<S, 3>(),
                // Not even compiled where a tile has three rows.
                _ if S::LAYOUT.rows == 3 => {}
                4 => self.tiles::<S, 4>(),
                5 => self.tiles::<S, 5>(),
                _ => self.tiles::<S, 6>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn tiles<S: Simd, const N: usize>(&self) {
        // SAFETY: passed on to the caller.
        unsafe {
            for tile in 0..self.tiles {
                let w = self.panel.add(tile * self.blocks * TILE * S::GROUP);
                let parked = self.parked.add(tile * TILE * N * S::GROUP);
                self::tile::<S, N>(w, self.x, self.blocks, parked, self.fresh);
            }
        }
    }
}

/// `TILE` weight rows x `N` activation rows over `blocks` blocks, one lane group.
#[inline(always)]
unsafe fn tile<S: Simd, const N: usize>(
    mut w: *const f32,
    mut x: *const f32,
    blocks: usize,
    parked: *mut f32,
    fresh: bool,
) {
    // SAFETY: the caller's pointers hold `blocks` blocks and a tile of parked lanes.
    unsafe {
        let mut acc = [[S::group_zero(); N]; TILE];
        if !fresh {
            for (i, acc) in acc.iter_mut().enumerate() {
                for (j, acc) in acc.iter_mut().enumerate() {
                    *acc = S::group_load(parked.add((i * N + j) * S::GROUP));
                }
            }
        }
        // Few long rounds: a loop of 32 short ones ends in a mispredicted branch for every tile.
        for _ in 0..blocks / UNROLL {
            for _ in 0..UNROLL {
                acc = step::<S, N>(acc, w, x);
                x = x.add(N * S::GROUP);
                w = w.add(TILE * S::GROUP);
            }
        }
        for _ in 0..blocks % UNROLL {
            acc = step::<S, N>(acc, w, x);
            x = x.add(N * S::GROUP);
            w = w.add(TILE * S::GROUP);
        }
        for (i, acc) in acc.iter().enumerate() {
            for (j, acc) in acc.iter().enumerate() {
                S::group_store(parked.add((i * N + j) * S::GROUP), *acc);
            }
        }
    }
}

/// One block of [`tile`]. Sums go by value: they do not surely stay in registers otherwise.
#[inline(always)]
unsafe fn step<S: Simd, const N: usize>(mut acc: [[S::G; N]; TILE], w: *const f32, x: *const f32) -> [[S::G; N]; TILE] {
    // SAFETY: as in `tile`.
    unsafe {
        let mut lanes = [S::group_zero(); N];
        for (j, lanes) in lanes.iter_mut().enumerate() {
            *lanes = S::group_load(x.add(j * S::GROUP));
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            let weight = S::group_load(w.add(i * S::GROUP));
            for j in 0..N {
                acc[j] = S::group_fma(weight, lanes[j], acc[j]);
            }
        }
    }
    acc
}
