//! Weight rows times groups of sixteen activation rows, which are the lanes: no sum crosses lanes, and the sixteen lanes of the
//! definition are sixteen registers for each output.
//!
//! A section of a few weight rows is expanded once for all groups. The definition's lanes are kept in scratch between sections.

use super::weights::{Activations, Chunk, Weights, signed, without_excess};
use super::{CHUNK, Lanes, Offsets, QuantFormat, QuantRows, stored_bytes};
use crate::lanes::BLOCK;
use crate::outputs::Outputs;
use crate::simd::{Dots, Simd};

/// Groups whose lanes are kept meanwhile: they stay in the second cache.
const KEPT_GROUPS: usize = 8;
/// Chunks of a section: with the lanes of a tile it stays in the first cache.
const SECTION: usize = 2;
/// Weight rows of a section, at most.
const MOST_ROWS: usize = 8;
/// The definition's lanes of one weight row and a group.
const LANES: usize = CHUNK * QuantRows::GROUP;

/// Floats of scratch that tiles of `groups` groups take.
pub(crate) fn scratch_floats(groups: usize) -> usize {
    groups.min(KEPT_GROUPS) * MOST_ROWS * LANES
}

/// Weight rows `first..end` times all groups of activation rows.
pub(crate) struct Tiles<'a, 'b> {
    pub(crate) outputs: &'b Outputs<'a>,
    pub(crate) x: QuantRows,
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// [`scratch_floats`] of them: `[group][weight row][lane][row of the group]`.
    pub(crate) lanes: &'b mut [f32],
}

/// A chunk of a weight row, expanded.
#[repr(C, align(64))]
struct Expanded {
    bytes: [u8; CHUNK * BLOCK],
    scales: [f32; CHUNK],
    offsets: [f32; CHUNK],
    factors: [[f32; CHUNK]; 2],
    offset_factors: [[f32; CHUNK]; 2],
}

impl Expanded {
    const ZERO: Self = Self {
        bytes: [0; CHUNK * BLOCK],
        scales: [0.0; CHUNK],
        offsets: [0.0; CHUNK],
        factors: [[0.0; CHUNK]; 2],
        offset_factors: [[0.0; CHUNK]; 2],
    };

    #[inline(always)]
    unsafe fn fill<D: Dots, F: QuantFormat>(&mut self, units: *const u8) {
        // SAFETY: passed on to the caller.
        unsafe {
            let weights = Weights::<D>::load::<F>(units);
            for pair in 0..CHUNK / 2 {
                D::store(self.bytes.as_mut_ptr().add(64 * pair), weights.bytes[pair]);
            }
            D::S::store(self.scales.as_mut_ptr(), weights.scales);
            if F::HALVES {
                for half in 0..2 {
                    D::S::store(self.factors[half].as_mut_ptr(), D::floats(weights.factors[half]));
                }
            }
            if F::OFFSETS != Offsets::None {
                D::S::store(self.offsets.as_mut_ptr(), weights.offsets);
            }
            if F::OFFSETS == Offsets::Halves {
                for half in 0..2 {
                    D::S::store(self.offset_factors[half].as_mut_ptr(), D::floats(weights.offset_factors[half]));
                }
            }
        }
    }
}

impl Tiles<'_, '_> {
    /// # Safety
    /// `D` is available; the rows lie in their matrices, and no other thread writes their outputs.
    #[inline(always)]
    pub(crate) unsafe fn run<D: Dots, F: QuantFormat>(&mut self) {
        // SAFETY: passed on to the caller.
        unsafe {
            if D::WIDE {
                self.rows::<D, F, MOST_ROWS, 2>();
            } else {
                self.rows::<D, F, { MOST_ROWS / 2 }, 1>();
            }
        }
    }

    /// All products, in tiles of `R` weight rows and `G` groups.
    #[inline(always)]
    unsafe fn rows<D: Dots, F: QuantFormat, const R: usize, const G: usize>(&mut self) {
        assert!(R <= MOST_ROWS && self.lanes.len() >= scratch_floats(self.x.groups));
        let mut section = [const { [const { Expanded::ZERO }; SECTION] }; R];
        for group in (0..self.x.groups).step_by(KEPT_GROUPS) {
            let groups = KEPT_GROUPS.min(self.x.groups - group);
            for first in (self.first..self.end).step_by(R) {
                self.lanes[..groups * R * LANES].fill(0.0);
                for start in (0..self.x.blocks).step_by(SECTION * CHUNK) {
                    // SAFETY: groups and blocks are there, and the lanes lie in the scratch.
                    unsafe {
                        self.expand::<D, F, R>(first, start, &mut section);
                        let mut at = 0;
                        while at + G <= groups {
                            self.tile::<D, F, R, G>(&section, group, at, start);
                            at += G;
                        }
                        while at < groups {
                            self.tile::<D, F, R, 1>(&section, group, at, start);
                            at += 1;
                        }
                    }
                }
                // SAFETY: as above.
                unsafe { self.put::<D, R>(group, groups, first) };
            }
        }
    }

    /// A section of the weight rows from `first` on. What comes after the last row is that row again.
    #[inline(always)]
    unsafe fn expand<D: Dots, F: QuantFormat, const R: usize>(
        &self,
        first: usize,
        start: usize,
        section: &mut [[Expanded; SECTION]; R],
    ) {
        let weights = self.outputs.weights.bytes().as_ptr();
        let mut chunk = Chunk::ZERO;
        for r in 0..R {
            let row = if first + r < self.end { first + r } else { self.end - 1 };
            for index in 0..SECTION {
                let start = start + index * CHUNK;
                if start >= self.x.blocks {
                    break;
                }
                let count = if start + CHUNK <= self.x.blocks { CHUNK } else { self.x.blocks - start };
                // SAFETY: the row lies in the matrix, and the units in the row.
                unsafe {
                    let units = weights.add(row * stored_bytes::<F>(self.x.blocks) + stored_bytes::<F>(start));
                    section[r][index].fill::<D, F>(chunk.whole::<F>(units, count));
                }
            }
        }
    }

    /// A section times groups `group + at..` of activation rows.
    #[inline(always)]
    unsafe fn tile<D: Dots, F: QuantFormat, const R: usize, const G: usize>(
        &mut self,
        section: &[[Expanded; SECTION]; R],
        group: usize,
        at: usize,
        start: usize,
    ) {
        let kept = self.lanes.as_mut_ptr().wrapping_add(at * R * LANES);
        // SAFETY: by the caller's word.
        unsafe {
            let left = self.x.blocks - start;
            for block in 0..if left < SECTION * CHUNK { left } else { SECTION * CHUNK } {
                let (chunk, lane) = (block / CHUNK, block % CHUNK);
                let mut x = [self.x.group(group + at, start + block); G];
                for g in 1..G {
                    x[g] = self.x.group(group + at + g, start + block);
                }
                let mut dots = [[D::S::splat(0.0); G]; R];
                if F::HALVES {
                    for half in 0..2 {
                        let mut none = [D::zero(); G];
                        for g in 0..G {
                            none[g] = without_excess::<D, F>(none[g], D::load_ints(x[g].sums[half]));
                        }
                        let mut sums = [none; R];
                        for four in 4 * half..4 * half + 4 {
                            step::<D, F, R, G>(&mut sums, section, chunk, lane, four, &x);
                        }
                        for r in 0..R {
                            let factor = D::S::splat(section[r][chunk].factors[half][lane]);
                            for g in 0..G {
                                // Whole numbers below 2^24: nothing is rounded.
                                dots[r][g] = D::S::fma(D::floats(sums[r][g]), factor, dots[r][g]);
                            }
                        }
                    }
                } else {
                    let mut none = [D::zero(); G];
                    for g in 0..G {
                        let [first, second] = x[g].sums;
                        none[g] = without_excess::<D, F>(none[g], D::add(D::load_ints(first), D::load_ints(second)));
                    }
                    let mut sums = [none; R];
                    for four in 0..8 {
                        step::<D, F, R, G>(&mut sums, section, chunk, lane, four, &x);
                    }
                    for r in 0..R {
                        for g in 0..G {
                            dots[r][g] = D::floats(sums[r][g]);
                        }
                    }
                }
                for g in 0..G {
                    let x_scale = D::S::load(x[g].scales);
                    let sums = [D::floats(D::load_ints(x[g].sums[0])), D::floats(D::load_ints(x[g].sums[1]))];
                    let sum = D::S::mul(x_scale, D::S::add(sums[0], sums[1]));
                    for r in 0..R {
                        let weights = &section[r][chunk];
                        let kept = kept.add((g * R + r) * LANES + lane * QuantRows::GROUP);
                        let scale = D::S::mul(D::S::splat(weights.scales[lane]), x_scale);
                        let mut lanes = D::S::fma(scale, dots[r][g], D::S::load(kept));
                        if F::OFFSETS != Offsets::None {
                            let sum = if F::OFFSETS == Offsets::Halves {
                                let [first, second] = &weights.offset_factors;
                                let first = D::S::mul(sums[0], D::S::splat(first[lane]));
                                D::S::mul(x_scale, D::S::fma(sums[1], D::S::splat(second[lane]), first))
                            } else {
                                sum
                            };
                            lanes = D::S::fma(D::S::splat(weights.offsets[lane]), sum, lanes);
                        }
                        D::S::store(kept, lanes);
                    }
                }
            }
        }
    }

    /// Adds the lanes up and writes the outputs.
    #[inline(always)]
    unsafe fn put<D: Dots, const R: usize>(&self, group: usize, groups: usize, first: usize) {
        for at in 0..groups {
            let rows = (group + at) * QuantRows::GROUP;
            let count = QuantRows::GROUP.min(self.outputs.x_rows - rows);
            for r in 0..R.min(self.end - first) {
                let mut sums = [0.0; QuantRows::GROUP];
                // SAFETY: the lanes lie in the scratch, the outputs are this task's.
                unsafe {
                    let kept = self.lanes.as_ptr().add((at * R + r) * LANES);
                    let mut lanes: [Lanes<D>; CHUNK] = [D::S::splat(0.0); CHUNK];
                    for lane in 0..CHUNK {
                        lanes[lane] = D::S::load(kept.add(lane * QuantRows::GROUP));
                    }
                    let mut step = CHUNK / 2;
                    while step > 0 {
                        for lane in 0..step {
                            lanes[lane] = D::S::add(lanes[lane], lanes[lane + step]);
                        }
                        step /= 2;
                    }
                    D::S::store(sums.as_mut_ptr(), lanes[0]);
                    for row in 0..count {
                        self.outputs.put(rows + row, first + r, sums[row]);
                    }
                }
            }
        }
    }
}

/// Adds the products of four columns of a block.
#[inline(always)]
unsafe fn step<D: Dots, F: QuantFormat, const R: usize, const G: usize>(
    sums: &mut [[D::Ints; G]; R],
    section: &[[Expanded; SECTION]; R],
    chunk: usize,
    lane: usize,
    four: usize,
    x: &[Activations; G],
) {
    // SAFETY: the caller's groups have eight times 64 bytes for a block.
    unsafe {
        let mut columns = [D::load(x[0].quants.add(64 * four)); G];
        for g in 1..G {
            columns[g] = D::load(x[g].quants.add(64 * four));
        }
        for r in 0..R {
            let w = D::splat4(section[r][chunk].bytes.as_ptr().add(BLOCK * lane + 4 * four));
            for g in 0..G {
                sums[r][g] = D::accumulate(sums[r][g], w, columns[g], signed::<F>());
            }
        }
    }
}
