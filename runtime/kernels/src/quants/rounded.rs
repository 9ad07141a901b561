//! Activation rows rounded to bytes, and where they lie.

use super::weights::Activations;
use crate::isa::Isa;
use crate::lanes::{BLOCK, HALF};
use crate::simd::{Simd, Task, run};

/// Bytes that `rows` rounded rows of so many blocks take.
pub(crate) const fn packed_bytes(rows: usize, blocks: usize) -> usize {
    let (groups, alone) = QuantRows::split(rows);
    (groups * QuantRows::GROUP + alone) * blocks * (BLOCK + size_of::<f32>() + 2 * size_of::<i32>())
}

/// Adding it leaves the integer nearest to a number below 2^22, ties to even, in the low bits.
const NEAREST: f32 = 12_582_912.0;

/// A block of activations as bytes: `x` is about `scale * quant`, and `sums` are those of the first and of the last 16 quants.
///
/// `scale = greatest / 127`, `quant = x * (127 / greatest)` to nearest, ties to even, where `greatest` is the greatest
/// magnitude. A block without a number that f32 can divide 127 by is zero; one with what is no finite number has the scale NaN, so
/// that a fault shows.
#[inline(always)]
fn round_block(x: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> (f32, [i32; 2]) {
    // Magnitudes are in the order of their bits, infinity and NaN above all numbers.
    let mut greatest = 0u32;
    for column in 0..BLOCK {
        let magnitude = x[column].to_bits() & 0x7fff_ffff;
        greatest = if magnitude > greatest { magnitude } else { greatest };
    }
    let greatest = f32::from_bits(greatest);
    let inverse = 127.0 / greatest;
    let none = if !greatest.is_finite() {
        Some(f32::NAN)
    } else if !inverse.is_finite() {
        Some(0.0)
    } else {
        None
    };
    if let Some(scale) = none {
        *quants = [0; BLOCK];
        return (scale, [0; 2]);
    }
    let mut sums = [0; 2];
    for half in 0..2 {
        for column in half * HALF..(half + 1) * HALF {
            let nearest = (x[column] * inverse + NEAREST).to_bits() as i32 - NEAREST.to_bits() as i32;
            sums[half] += nearest;
            quants[column] = nearest as i8;
        }
    }
    (greatest / 127.0, sums)
}

/// Rounds rows of `columns` elements into `packed`, which has [`packed_bytes`].
///
/// # Panics
/// When it has not.
pub(crate) fn round(x: &[f32], columns: usize, packed: &mut [u8]) {
    let isa = Isa::best();
    // SAFETY: this machine has it.
    unsafe { run(isa, Round { x, columns, packed }) };
}

/// The same code for every instruction set, which its loops then use.
struct Round<'a> {
    x: &'a [f32],
    columns: usize,
    packed: &'a mut [u8],
}

impl Task for Round<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (rows, blocks) = (self.x.len() / self.columns, self.columns.div_ceil(BLOCK));
        let (groups, alone) = QuantRows::split(rows);
        let count = (groups * QuantRows::GROUP + alone) * blocks;
        let (quants, rest) = self.packed.split_at_mut(count * BLOCK);
        let (scales, rest) = rest.split_at_mut(count * size_of::<f32>());
        let (firsts, seconds) = rest.split_at_mut(count * size_of::<i32>());
        let (scales, _) = scales.as_chunks_mut::<4>();
        let (firsts, _) = firsts.as_chunks_mut::<4>();
        let (seconds, _) = seconds.as_chunks_mut::<4>();
        for row in 0..groups * QuantRows::GROUP + alone {
            let group = row / QuantRows::GROUP;
            for block in 0..blocks {
                let mut x = [0.0; BLOCK];
                // What fills the last group or the last block up is zero.
                if row < rows {
                    let from = &self.x[row * self.columns..(row + 1) * self.columns];
                    let from = &from[block * BLOCK..];
                    match from.first_chunk() {
                        Some(whole) => x = *whole,
                        None => x[..from.len()].copy_from_slice(from),
                    }
                }
                let mut rounded = [0; BLOCK];
                let (scale, sums) = round_block(&x, &mut rounded);
                let at = if group < groups {
                    let (at, place) = ((group * blocks + block) * QuantRows::GROUP, row % QuantRows::GROUP);
                    let quants = &mut quants[at * BLOCK..][..QuantRows::GROUP * BLOCK];
                    for four in 0..BLOCK / 4 {
                        for column in 0..4 {
                            quants[(four * QuantRows::GROUP + place) * 4 + column] = rounded[4 * four + column] as u8;
                        }
                    }
                    at + place
                } else {
                    let at = row * blocks + block;
                    let quants = &mut quants[at * BLOCK..][..BLOCK];
                    for column in 0..BLOCK {
                        quants[column] = rounded[column] as u8;
                    }
                    at
                };
                scales[at] = scale.to_ne_bytes();
                firsts[at] = sums[0].to_ne_bytes();
                seconds[at] = sums[1].to_ne_bytes();
            }
        }
    }
}

/// Rounded rows, as the products read them: groups of sixteen rows, `[block][four columns][row][column]`, and after them a few rows
/// alone, `[block][column]`; scales and sums likewise.
#[derive(Clone, Copy)]
pub(crate) struct QuantRows {
    quants: *const u8,
    scales: *const f32,
    /// Of the blocks' first halves, and of the second ones.
    sums: [*const i32; 2],
    /// Blocks of a row.
    pub(crate) blocks: usize,
    /// Groups of rows, the last of which may be filled up.
    pub(crate) groups: usize,
    /// Rows after the groups.
    pub(crate) alone: usize,
}

impl QuantRows {
    /// Rows of a group.
    pub(crate) const GROUP: usize = 16;
    /// Rows that are better off alone than in a group of their own, at most.
    pub(crate) const MOST_ALONE: usize = 6;

    /// Into how many groups and rows alone so many rows go.
    pub(crate) const fn split(rows: usize) -> (usize, usize) {
        let (groups, rest) = (rows / Self::GROUP, rows % Self::GROUP);
        if rest > Self::MOST_ALONE { (groups + 1, 0) } else { (groups, rest) }
    }

    /// A view of what [`round`] wrote for `rows` rows of `blocks` blocks.
    ///
    /// # Panics
    /// When there are fewer bytes.
    pub(crate) fn new(packed: &[u8], rows: usize, blocks: usize) -> Self {
        let (groups, alone) = Self::split(rows);
        let count = (groups * Self::GROUP + alone) * blocks;
        let (quants, rest) = packed.split_at(count * BLOCK);
        let (scales, rest) = rest.split_at(count * size_of::<f32>());
        let (firsts, rest) = rest.split_at(count * size_of::<i32>());
        let seconds = &rest[..count * size_of::<i32>()];
        let sums = [firsts, seconds].map(|sums| sums.as_ptr().cast::<i32>());
        let scales = scales.as_ptr().cast::<f32>();
        assert!(scales.is_aligned() && sums[0].is_aligned() && sums[1].is_aligned());
        Self { quants: quants.as_ptr(), scales, sums, blocks, groups, alone }
    }

    /// The first row alone.
    #[inline(always)]
    pub(crate) const fn grouped(&self) -> usize {
        self.groups * Self::GROUP
    }

    /// Row `row` of those alone, from block `block` on.
    ///
    /// # Safety
    /// It is there.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, row: usize, block: usize) -> Activations {
        // SAFETY: by the caller's word.
        unsafe { self.at((self.grouped() + row) * self.blocks + block) }
    }

    /// Block `block` of a group of rows: sixteen scales and sums, and eight times four columns of sixteen rows.
    ///
    /// # Safety
    /// It is there.
    #[inline(always)]
    pub(crate) unsafe fn group(&self, group: usize, block: usize) -> Activations {
        // SAFETY: by the caller's word.
        unsafe { self.at((group * self.blocks + block) * Self::GROUP) }
    }

    #[inline(always)]
    unsafe fn at(&self, at: usize) -> Activations {
        // SAFETY: by the caller's word.
        unsafe {
            Activations {
                quants: self.quants.add(at * BLOCK),
                scales: self.scales.add(at),
                sums: [self.sums[0].add(at), self.sums[1].add(at)],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(x: [f32; BLOCK]) -> ([i8; BLOCK], f32, [i32; 2]) {
        let mut quants = [99; BLOCK];
        let (scale, sums) = round_block(&x, &mut quants);
        (quants, scale, sums)
    }

    #[test]
    fn the_greatest_becomes_127_and_ties_go_to_even() {
        let mut x = [0.0; BLOCK];
        (x[0], x[1], x[2], x[3], x[4], x[16]) = (-254.0, 1.0, 3.0, 5.0, -1.0, 8.0);
        let (quants, scale, sums) = rounded(x);
        assert_eq!(quants[..5], [-127, 0, 2, 2, 0]);
        assert_eq!((scale, sums), (2.0, [-123, 4]));
    }

    #[test]
    fn what_cannot_be_rounded_is_zero_or_shows() {
        assert_eq!(rounded([0.0; BLOCK]), ([0; BLOCK], 0.0, [0; 2]));
        assert_eq!(rounded([1e-40; BLOCK]), ([0; BLOCK], 0.0, [0; 2]));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; BLOCK];
            x[7] = wrong;
            let (quants, scale, sums) = rounded(x);
            assert!(scale.is_nan() && quants == [0; BLOCK] && sums == [0; 2]);
        }
        let (quants, scale, _) = rounded([f32::MAX; BLOCK]);
        assert!(quants == [127; BLOCK] && scale.is_finite());
    }
}
