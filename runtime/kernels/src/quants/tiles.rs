//! Weight rows times groups of sixteen or eight activation rows, which are the lanes: no sum crosses lanes, and the sixteen lanes of the
//! definition are sixteen registers for each output. Of eight activation rows a register has two outputs, those of two weight rows side by side.
//!
//! A section of a few weight rows is expanded once for all groups. The definition's lanes are kept in scratch between sections.

use super::rounded::Places;
use super::weights::{Activations, Chunk, Weights, signed, without_excess, words};
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
/// Outputs of a register.
const ACROSS: usize = 16;
/// The definition's lanes of a register's outputs.
const LANES: usize = CHUNK * ACROSS;

/// Floats of scratch that tiles of groups of rows take.
pub(crate) fn scratch_floats(places: Places) -> usize {
    places.sixteens.max(places.eights).min(KEPT_GROUPS) * MOST_ROWS * LANES
}

/// Weight rows `first..end` times all groups of activation rows.
pub(crate) struct Tiles<'a, 'b> {
    pub(crate) outputs: &'b Outputs<'a>,
    pub(crate) x: QuantRows,
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// [`scratch_floats`] of them: `[group][weight row, or two side by side][lane][output]`.
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
        let Places { sixteens, eights, .. } = self.x.places;
        // SAFETY: passed on to the caller.
        unsafe {
            if D::WIDE {
                self.rows::<D, F, MOST_ROWS, 2, 1>(0, sixteens);
            } else {
                self.rows::<D, F, { MOST_ROWS / 2 }, 1, 1>(0, sixteens);
            }
            self.rows::<D, F, { MOST_ROWS / 2 }, 1, 2>(16 * sixteens, eights);
        }
    }

    /// The products with `count` groups from activation row `start` on, in tiles of `R` registers of outputs by `G` groups. A register has the outputs
    /// of `SIDE` weight rows: 1, or 2 where groups are of eight.
    #[inline(always)]
    unsafe fn rows<D: Dots, F: QuantFormat, const R: usize, const G: usize, const SIDE: usize>(
        &mut self,
        start: usize,
        count: usize,
    ) {
        const { assert!(R * SIDE <= MOST_ROWS && (SIDE == 1 || SIDE == 2)) };
        if count == 0 {
            return;
        }
        assert!(self.lanes.len() >= count.min(KEPT_GROUPS) * R * LANES);
        let mut section = [const { [const { Expanded::ZERO }; SECTION] }; MOST_ROWS];
        for group in (0..count).step_by(KEPT_GROUPS) {
            let groups = Groups { first: start + group * (ACROSS / SIDE), count: KEPT_GROUPS.min(count - group) };
            for first in (self.first..self.end).step_by(R * SIDE) {
                self.lanes[..groups.count * R * LANES].fill(0.0);
                for start in (0..self.x.blocks).step_by(SECTION * CHUNK) {
                    // SAFETY: groups and blocks are there, and the lanes lie in the scratch.
                    unsafe {
                        self.expand::<D, F>(first, start, &mut section[..R * SIDE]);
                        let mut at = 0;
                        while at + G <= groups.count {
                            self.tile::<D, F, R, G, SIDE>(&section, groups.first, at, start);
                            at += G;
                        }
                        while at < groups.count {
                            self.tile::<D, F, R, 1, SIDE>(&section, groups.first, at, start);
                            at += 1;
                        }
                    }
                }
                // SAFETY: as above.
                unsafe { self.put::<D, R, SIDE>(groups, first) };
            }
        }
    }

    /// A section of the weight rows from `first` on. What comes after the last row is that row again.
    #[inline(always)]
    unsafe fn expand<D: Dots, F: QuantFormat>(&self, first: usize, start: usize, section: &mut [[Expanded; SECTION]]) {
        let weights = self.outputs.weights.bytes().as_ptr();
        let mut chunk = Chunk::ZERO;
        for r in 0..section.len() {
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

    /// A section times groups `at..` of those that begin with activation row `first`.
    #[inline(always)]
    unsafe fn tile<D: Dots, F: QuantFormat, const R: usize, const G: usize, const SIDE: usize>(
        &mut self,
        section: &Section,
        first: usize,
        at: usize,
        start: usize,
    ) {
        let together = ACROSS / SIDE;
        let kept = self.lanes.as_mut_ptr().wrapping_add(at * R * LANES);
        // SAFETY: by the caller's word.
        unsafe {
            let left = self.x.blocks - start;
            for block in 0..if left < SECTION * CHUNK { left } else { SECTION * CHUNK } {
                let (chunk, lane) = (block / CHUNK, block % CHUNK);
                let mut x = [self.x.group(first + at * together, together, start + block); G];
                for g in 1..G {
                    x[g] = self.x.group(first + (at + g) * together, together, start + block);
                }
                let mut dots = [[D::S::splat(0.0); G]; R];
                if F::HALVES {
                    for half in 0..2 {
                        let mut none = [D::zero(); G];
                        for g in 0..G {
                            none[g] = without_excess::<D, F>(none[g], ints::<D, SIDE>(x[g].sums[half]));
                        }
                        let mut sums = [none; R];
                        columns::<D, F, R, G, SIDE>(&mut sums, section, chunk, lane, 4 * half, 4, &x);
                        for r in 0..R {
                            let [one, other] = sides::<SIDE>(section, r, chunk);
                            let factor = splat::<D, SIDE>(one.factors[half][lane], other.factors[half][lane]);
                            for g in 0..G {
                                // Whole numbers below 2^24: nothing is rounded.
                                dots[r][g] = D::S::fma(D::floats(sums[r][g]), factor, dots[r][g]);
                            }
                        }
                    }
                } else {
                    let mut none = [D::zero(); G];
                    for g in 0..G {
                        let sums = D::add(ints::<D, SIDE>(x[g].sums[0]), ints::<D, SIDE>(x[g].sums[1]));
                        none[g] = without_excess::<D, F>(none[g], sums);
                    }
                    let mut sums = [none; R];
                    columns::<D, F, R, G, SIDE>(&mut sums, section, chunk, lane, 0, 8, &x);
                    for r in 0..R {
                        for g in 0..G {
                            dots[r][g] = D::floats(sums[r][g]);
                        }
                    }
                }
                for g in 0..G {
                    let x_scale = if SIDE == 2 { D::floats_twice(x[g].scales) } else { D::S::load(x[g].scales) };
                    let sums = [D::floats(ints::<D, SIDE>(x[g].sums[0])), D::floats(ints::<D, SIDE>(x[g].sums[1]))];
                    let sum = D::S::mul(x_scale, D::S::add(sums[0], sums[1]));
                    for r in 0..R {
                        let [one, other] = sides::<SIDE>(section, r, chunk);
                        let kept = kept.add((g * R + r) * LANES + lane * ACROSS);
                        let scale = D::S::mul(splat::<D, SIDE>(one.scales[lane], other.scales[lane]), x_scale);
                        let mut lanes = D::S::fma(scale, dots[r][g], D::S::load(kept));
                        if F::OFFSETS != Offsets::None {
                            let sum = if F::OFFSETS == Offsets::Halves {
                                let [a, b] = [&one.offset_factors, &other.offset_factors];
                                let first = D::S::mul(sums[0], splat::<D, SIDE>(a[0][lane], b[0][lane]));
                                let second = splat::<D, SIDE>(a[1][lane], b[1][lane]);
                                D::S::mul(x_scale, D::S::fma(sums[1], second, first))
                            } else {
                                sum
                            };
                            lanes = D::S::fma(splat::<D, SIDE>(one.offsets[lane], other.offsets[lane]), sum, lanes);
                        }
                        D::S::store(kept, lanes);
                    }
                }
            }
        }
    }

    /// Adds the lanes up and writes the outputs.
    #[inline(always)]
    unsafe fn put<D: Dots, const R: usize, const SIDE: usize>(&self, groups: Groups, first: usize) {
        let together = ACROSS / SIDE;
        for at in 0..groups.count {
            let rows = groups.first + at * together;
            let count = together.min(self.outputs.x_rows - rows);
            for r in 0..R {
                let mut sums = [0.0; ACROSS];
                // SAFETY: the lanes lie in the scratch, the outputs are this task's.
                unsafe {
                    let kept = self.lanes.as_ptr().add((at * R + r) * LANES);
                    let mut lanes: [Lanes<D>; CHUNK] = [D::S::splat(0.0); CHUNK];
                    for lane in 0..CHUNK {
                        lanes[lane] = D::S::load(kept.add(lane * ACROSS));
                    }
                    let mut step = CHUNK / 2;
                    while step > 0 {
                        for lane in 0..step {
                            lanes[lane] = D::S::add(lanes[lane], lanes[lane + step]);
                        }
                        step /= 2;
                    }
                    D::S::store(sums.as_mut_ptr(), lanes[0]);
                }
                for side in 0..SIDE {
                    let output = first + r * SIDE + side;
                    for row in 0..if output < self.end { count } else { 0 } {
                        // SAFETY: as above.
                        unsafe { self.outputs.put(rows + row, output, sums[side * together + row]) };
                    }
                }
            }
        }
    }
}

/// Activation rows from `first` on, in so many groups.
#[derive(Clone, Copy)]
struct Groups {
    first: usize,
    count: usize,
}

/// Chunks of weight rows, expanded.
type Section = [[Expanded; SECTION]; MOST_ROWS];

/// The weight rows whose outputs are in register `r`: two, or one and itself.
#[inline(always)]
fn sides<const SIDE: usize>(section: &Section, r: usize, chunk: usize) -> [&Expanded; 2] {
    [&section[r * SIDE][chunk], &section[r * SIDE + SIDE - 1][chunk]]
}

/// What the outputs of one weight row take, and those of the other.
#[inline(always)]
unsafe fn splat<D: Dots, const SIDE: usize>(one: f32, other: f32) -> Lanes<D> {
    // SAFETY: the caller has the instruction set.
    unsafe { if SIDE == 2 { D::splat_two(one, other) } else { D::S::splat(one) } }
}

/// A number for each row of a group.
#[inline(always)]
unsafe fn ints<D: Dots, const SIDE: usize>(p: *const i32) -> D::Ints {
    // SAFETY: the caller's numbers.
    unsafe { if SIDE == 2 { D::ints_twice(p) } else { D::load_ints(p) } }
}

/// Adds the products of `count` times four columns of a block, from four columns `first` on.
#[inline(always)]
unsafe fn columns<D: Dots, F: QuantFormat, const R: usize, const G: usize, const SIDE: usize>(
    sums: &mut [[D::Ints; G]; R],
    section: &Section,
    chunk: usize,
    lane: usize,
    first: usize,
    count: usize,
    x: &[Activations; G],
) {
    // SAFETY: the caller's groups have eight times four columns of a block.
    unsafe {
        let Some(at_once) = words::<D, F>() else {
            for four in first..first + count {
                let columns = four_columns::<D, G, SIDE>(x, four);
                for r in 0..R {
                    let w = four_weights::<D, SIDE>(section, r, chunk, lane, four);
                    for g in 0..G {
                        sums[r][g] = D::accumulate(sums[r][g], w, columns[g], signed::<F>());
                    }
                }
            }
            return;
        };
        let at_once = if at_once < count { at_once } else { count };
        let mut start = first;
        while start < first + count {
            let mut words = [[D::no_words(); G]; R];
            for four in start..start + at_once {
                let columns = four_columns::<D, G, SIDE>(x, four);
                for r in 0..R {
                    let w = four_weights::<D, SIDE>(section, r, chunk, lane, four);
                    for g in 0..G {
                        words[r][g] = D::accumulate_words(words[r][g], w, columns[g]);
                    }
                }
            }
            for r in 0..R {
                for g in 0..G {
                    sums[r][g] = D::add_words(sums[r][g], words[r][g]);
                }
            }
            start += at_once;
        }
    }
}

/// Four columns of the rows of each group, once for each weight row that is side by side.
#[inline(always)]
unsafe fn four_columns<D: Dots, const G: usize, const SIDE: usize>(x: &[Activations; G], four: usize) -> [D::Bytes; G] {
    // SAFETY: the caller's groups have eight times four columns for a block.
    unsafe {
        let at = four * 4 * (ACROSS / SIDE);
        let first = x[0].quants.add(at);
        let mut columns = [if SIDE == 2 { D::twice(first) } else { D::load(first) }; G];
        for g in 1..G {
            let other = x[g].quants.add(at);
            columns[g] = if SIDE == 2 { D::twice(other) } else { D::load(other) };
        }
        columns
    }
}

/// Four columns of the weight rows of register `r`.
#[inline(always)]
unsafe fn four_weights<D: Dots, const SIDE: usize>(
    section: &Section,
    r: usize,
    chunk: usize,
    lane: usize,
    four: usize,
) -> D::Bytes {
    let [one, other] = sides::<SIDE>(section, r, chunk);
    // SAFETY: a chunk has so many bytes; the caller has the instruction set.
    unsafe {
        let at = BLOCK * lane + 4 * four;
        let one = one.bytes.as_ptr().add(at);
        if SIDE == 2 { D::splat4_two(one, other.bytes.as_ptr().add(at)) } else { D::splat4(one) }
    }
}
