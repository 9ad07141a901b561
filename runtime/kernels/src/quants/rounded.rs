//! Activation rows rounded to bytes, and where they lie.

use super::weights::Activations;
use crate::isa::Isa;
use crate::lanes::{BLOCK, HALF};
use crate::simd::{Simd, Task, run};

/// Bytes that `rows` rounded rows of so many blocks take.
pub(crate) const fn packed_bytes(rows: usize, blocks: usize) -> usize {
    Places::of(rows).all() * blocks * (BLOCK + size_of::<f32>() + 2 * size_of::<i32>())
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
        let places = Places::of(rows);
        let count = places.all() * blocks;
        let (quants, rest) = self.packed.split_at_mut(count * BLOCK);
        let (scales, rest) = rest.split_at_mut(count * size_of::<f32>());
        let (firsts, seconds) = rest.split_at_mut(count * size_of::<i32>());
        let (scales, _) = scales.as_chunks_mut::<4>();
        let (firsts, _) = firsts.as_chunks_mut::<4>();
        let (seconds, _) = seconds.as_chunks_mut::<4>();
        for row in 0..places.all() {
            let (first, together) = places.group_of(row);
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
                let (at, place) = (first * blocks + block * together, row - first);
                let quants = &mut quants[at * BLOCK..][..together * BLOCK];
                for four in 0..BLOCK / 4 {
                    for column in 0..4 {
                        quants[(four * together + place) * 4 + column] = rounded[4 * four + column] as u8;
                    }
                }
                let at = at + place;
                scales[at] = scale.to_ne_bytes();
                firsts[at] = sums[0].to_ne_bytes();
                seconds[at] = sums[1].to_ne_bytes();
            }
        }
    }
}

/// How rounded rows lie: groups of sixteen, then perhaps one of eight, then rows alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) sixteens: usize,
    pub(crate) eights: usize,
    pub(crate) alone: usize,
}

impl Places {
    /// Rows that are better off alone than in a group of their own, at most.
    pub(crate) const MOST_ALONE: usize = 4;

    /// Those of so many rows. The last group may be filled up.
    pub(crate) const fn of(rows: usize) -> Self {
        let (sixteens, rest) = (rows / 16, rows % 16);
        match rest {
            ..=Self::MOST_ALONE => Self { sixteens, eights: 0, alone: rest },
            ..=8 => Self { sixteens, eights: 1, alone: 0 },
            _ if rest - 8 <= Self::MOST_ALONE => Self { sixteens, eights: 1, alone: rest - 8 },
            _ => Self { sixteens: sixteens + 1, eights: 0, alone: 0 },
        }
    }

    /// Rows in groups, with those that fill one up.
    pub(crate) const fn grouped(self) -> usize {
        16 * self.sixteens + 8 * self.eights
    }

    /// Places of rows.
    const fn all(self) -> usize {
        self.grouped() + self.alone
    }

    /// The first row of the group that `row` is in, and how many that group has.
    #[inline(always)]
    const fn group_of(self, row: usize) -> (usize, usize) {
        if row < 16 * self.sixteens {
            (row / 16 * 16, 16)
        } else if row < self.grouped() {
            (16 * self.sixteens, 8)
        } else {
            (row, 1)
        }
    }
}

/// Rounded rows, as the products read them: in a group `[block][four columns][row][column]`, of which a row alone is one of one row; scales and
/// sums likewise.
#[derive(Clone, Copy)]
pub(crate) struct QuantRows {
    quants: *const u8,
    scales: *const f32,
    /// Of the blocks' first halves, and of the second ones.
    sums: [*const i32; 2],
    /// Blocks of a row.
    pub(crate) blocks: usize,
    pub(crate) places: Places,
}

impl QuantRows {
    /// A view of what [`round`] wrote for `rows` rows of `blocks` blocks.
    ///
    /// # Panics
    /// When there are fewer bytes.
    pub(crate) fn new(packed: &[u8], rows: usize, blocks: usize) -> Self {
        let places = Places::of(rows);
        let count = places.all() * blocks;
        let (quants, rest) = packed.split_at(count * BLOCK);
        let (scales, rest) = rest.split_at(count * size_of::<f32>());
        let (firsts, rest) = rest.split_at(count * size_of::<i32>());
        let seconds = &rest[..count * size_of::<i32>()];
        let sums = [firsts, seconds].map(|sums| sums.as_ptr().cast::<i32>());
        let scales = scales.as_ptr().cast::<f32>();
        assert!(scales.is_aligned() && sums[0].is_aligned() && sums[1].is_aligned());
        Self { quants: quants.as_ptr(), scales, sums, blocks, places }
    }

    /// Row `row` of those alone, from block `block` on.
    ///
    /// # Safety
    /// It is there.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, row: usize, block: usize) -> Activations {
        // SAFETY: by the caller's word.
        unsafe { self.group(self.places.grouped() + row, 1, block) }
    }

    /// Block `block` of the group of `together` rows whose first one is `first`: as many scales and sums, and eight times four columns of the rows.
    ///
    /// # Safety
    /// It is there.
    #[inline(always)]
    pub(crate) unsafe fn group(&self, first: usize, together: usize, block: usize) -> Activations {
        let at = first * self.blocks + block * together;
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
    fn every_row_has_a_place_of_its_own() {
        for rows in 0..100 {
            let places = Places::of(rows);
            assert!((rows..rows + 8).contains(&places.all()) && places.eights <= 1, "{rows}");
            assert!(places.alone <= Places::MOST_ALONE && (places.alone == 0 || places.all() == rows), "{rows}");
            let mut next = 0;
            while next < places.all() {
                let (first, together) = places.group_of(next);
                assert_eq!(first, next);
                assert!((first..first + together).all(|row| places.group_of(row) == (first, together)));
                next += together;
            }
            assert_eq!(next, places.all());
        }
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
