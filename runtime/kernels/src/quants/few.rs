//! Weight rows times few activation rows: stored bytes go straight into registers, lanes are those of one output.

use super::rounded::Places;
use super::weights::{Activations, Chunk, Weights};
use super::{CHUNK, QuantFormat, QuantRows, stored_bytes};
use crate::lanes::BLOCK;
use crate::outputs::Outputs;
use crate::simd::{Dots, Simd, prefetch_far};

/// How far ahead of itself a row is asked for, in bytes.
const AHEAD: usize = 1024;

/// Weight rows `first..end` times the activation rows that are in no group.
pub(crate) struct Few<'a, 'b> {
    pub(crate) outputs: &'b Outputs<'a>,
    pub(crate) x: QuantRows,
    pub(crate) first: usize,
    pub(crate) end: usize,
}

impl Few<'_, '_> {
    /// # Safety
    /// `D` is available; the rows lie in their matrices, and no other thread writes their outputs.
    #[inline(always)]
    pub(crate) unsafe fn run<D: Dots, F: QuantFormat>(&self) {
        // SAFETY: passed on to the caller.
        unsafe {
            for row in self.first..self.end {
                // One after another: memory gave a Q8_0 row side by side with another less than two activation rows take here.
                if self.x.places.alone == 1 {
                    self.one::<D, F>(row);
                } else {
                    self.all::<D, F>(row);
                }
            }
        }
    }

    /// Weight row `row` times the one activation row: lanes stay in a register.
    #[inline(always)]
    unsafe fn one<D: Dots, F: QuantFormat>(&self, row: usize) {
        let (blocks, whole) = (self.x.blocks, self.x.blocks / CHUNK * CHUNK);
        // SAFETY: chunks lie in the rows, which lie where the caller says.
        unsafe {
            let units = self.row::<F>(row);
            let mut lanes = D::S::splat(0.0);
            for chunk in 0..blocks / CHUNK {
                let units = units.add(chunk * stored_bytes::<F>(CHUNK));
                ahead::<F>(units);
                lanes = Weights::<D>::load::<F>(units).add::<F>(&self.x.row(0, chunk * CHUNK), lanes);
            }
            if whole < blocks {
                let (mut end, mut chunk) = (End::ZERO, Chunk::ZERO);
                let x = end.whole(&self.x.row(0, whole), blocks - whole);
                let units = chunk.whole::<F>(units.add(stored_bytes::<F>(whole)), blocks - whole);
                lanes = Weights::<D>::load::<F>(units).add::<F>(&x, lanes);
            }
            self.outputs.put(self.x.places.grouped(), row, D::S::sum(lanes));
        }
    }

    /// Weight row `row` times all activation rows.
    #[inline(always)]
    unsafe fn all<D: Dots, F: QuantFormat>(&self, row: usize) {
        let blocks = self.x.blocks;
        // SAFETY: as above; there are no more rows than lanes, and only the last chunk has fewer blocks.
        unsafe {
            let mut lanes = [D::S::splat(0.0); Places::MOST_ALONE];
            assert!(self.x.places.alone <= lanes.len());
            let (mut chunk, mut end) = (Chunk::ZERO, End::ZERO);
            let units = self.row::<F>(row);
            for index in 0..blocks.div_ceil(CHUNK) {
                let start = index * CHUNK;
                let count = if start + CHUNK <= blocks { CHUNK } else { blocks - start };
                let units = units.add(stored_bytes::<F>(start));
                ahead::<F>(units);
                let weights = Weights::<D>::load::<F>(chunk.whole::<F>(units, count));
                for index in 0..self.x.places.alone {
                    let x = self.x.row(index, start);
                    let x = if count == CHUNK { x } else { end.whole(&x, count) };
                    lanes[index] = weights.add::<F>(&x, lanes[index]);
                }
            }
            for index in 0..self.x.places.alone {
                self.outputs.put(self.x.places.grouped() + index, row, D::S::sum(lanes[index]));
            }
        }
    }

    /// Where weight row `row` begins.
    ///
    /// # Safety
    /// It is there.
    #[inline(always)]
    unsafe fn row<F: QuantFormat>(&self, row: usize) -> *const u8 {
        // SAFETY: by the caller's word.
        unsafe { self.outputs.weights.bytes().as_ptr().add(row * stored_bytes::<F>(self.x.blocks)) }
    }
}

/// Asks for the chunk that comes [`AHEAD`] bytes after `units`.
#[inline(always)]
fn ahead<F: QuantFormat>(units: *const u8) {
    for line in 0..stored_bytes::<F>(CHUNK).div_ceil(64) {
        prefetch_far(units.wrapping_add(AHEAD + 64 * line));
    }
}

/// Room for the last chunk of an activation row, which may have fewer blocks than lanes.
struct End {
    quants: [u8; CHUNK * BLOCK],
    scales: [f32; CHUNK],
    sums: [[i32; CHUNK]; 2],
}

impl End {
    const ZERO: Self = Self { quants: [0; CHUNK * BLOCK], scales: [0.0; CHUNK], sums: [[0; CHUNK]; 2] };

    /// The first `blocks` blocks of `x`, and zeros.
    ///
    /// # Safety
    /// There are so many; earlier calls had as many.
    #[inline(always)]
    unsafe fn whole(&mut self, x: &Activations, blocks: usize) -> Activations {
        // SAFETY: by the caller's word; there is room for a whole chunk.
        unsafe {
            x.quants.copy_to_nonoverlapping(self.quants.as_mut_ptr(), blocks * BLOCK);
            x.scales.copy_to_nonoverlapping(self.scales.as_mut_ptr(), blocks);
            for half in 0..2 {
                x.sums[half].copy_to_nonoverlapping(self.sums[half].as_mut_ptr(), blocks);
            }
        }
        let sums = [self.sums[0].as_ptr(), self.sums[1].as_ptr()];
        Activations { quants: self.quants.as_ptr(), scales: self.scales.as_ptr(), sums }
    }
}
