//! Activation rows rounded to bytes.

use crate::lanes::BLOCK;

/// Bytes of a rounded row of so many blocks: the quants, then a scale and a sum for each block.
pub(crate) const fn row_bytes(blocks: usize) -> usize {
    blocks * (BLOCK + size_of::<f32>() + size_of::<i32>())
}

/// Adding it leaves the integer nearest to a number below 2^22, ties to even, in the low bits.
const NEAREST: f32 = 12_582_912.0;

/// A block of activations as bytes: `x` is about `scale * quant`, and `sum` is the quants' sum.
///
/// `scale = greatest / 127`, `quant = x * (127 / greatest)` to nearest, ties to even, where `greatest` is the greatest
/// magnitude. A block without a number that f32 can divide 127 by is zero; one with what is no finite number has the scale NaN, so
/// that a fault shows.
fn round_block(x: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> (f32, i32) {
    // Magnitudes are in the order of their bits, infinity and NaN above all numbers.
    let greatest = x.iter().fold(0, |greatest: u32, x| greatest.max(x.to_bits() & 0x7fff_ffff));
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
        quants.fill(0);
        return (scale, 0);
    }
    let mut sum = 0;
    for (quant, x) in quants.iter_mut().zip(x) {
        let nearest = (x * inverse + NEAREST).to_bits() as i32 - NEAREST.to_bits() as i32;
        sum += nearest;
        *quant = nearest as i8;
    }
    (greatest / 127.0, sum)
}

/// Rounds row `row` of `rows` into `packed`, which has [`row_bytes`] for each: all rows' quants, then their scales, then their
/// sums.
pub(crate) fn round_row(x: &[f32], row: usize, rows: usize, packed: &mut [u8]) {
    let blocks = x.len().div_ceil(BLOCK);
    let (quants, rest) = packed.split_at_mut(rows * blocks * BLOCK);
    let (scales, sums) = rest.split_at_mut(rows * blocks * size_of::<f32>());
    let range = row * blocks..(row + 1) * blocks;
    let (quants, _) = quants.as_chunks_mut::<BLOCK>();
    let (scales, _) = scales.as_chunks_mut::<4>();
    let (sums, _) = sums.as_chunks_mut::<4>();
    let places = quants[range.clone()].iter_mut().zip(&mut scales[range.clone()]).zip(&mut sums[range]);
    for (x, ((quants, scale), sum)) in x.chunks(BLOCK).zip(places) {
        let mut block = [0.0; BLOCK];
        block[..x.len()].copy_from_slice(x);
        let mut rounded = [0; BLOCK];
        let (rounded_scale, rounded_sum) = round_block(&block, &mut rounded);
        *quants = rounded.map(|quant| quant as u8);
        *scale = rounded_scale.to_ne_bytes();
        *sum = rounded_sum.to_ne_bytes();
    }
}

/// Rounded rows, as the products read them.
#[derive(Clone, Copy)]
pub(crate) struct QuantRows {
    pub(crate) quants: *const i8,
    pub(crate) scales: *const f32,
    pub(crate) sums: *const i32,
    /// Blocks of a row.
    pub(crate) blocks: usize,
}

impl QuantRows {
    /// A view of what [`round_row`] wrote for `rows` rows of `blocks` blocks.
    ///
    /// # Panics
    /// When there are fewer bytes.
    pub(crate) fn new(packed: &[u8], rows: usize, blocks: usize) -> Self {
        let (quants, rest) = packed.split_at(rows * blocks * BLOCK);
        let (scales, sums) = rest.split_at(rows * blocks * size_of::<f32>());
        assert!(sums.len() >= rows * blocks * size_of::<i32>() && scales.as_ptr().cast::<f32>().is_aligned());
        Self { quants: quants.as_ptr().cast(), scales: scales.as_ptr().cast(), sums: sums.as_ptr().cast(), blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(x: [f32; BLOCK]) -> ([i8; BLOCK], f32, i32) {
        let mut quants = [99; BLOCK];
        let (scale, sum) = round_block(&x, &mut quants);
        (quants, scale, sum)
    }

    #[test]
    fn the_greatest_becomes_127_and_ties_go_to_even() {
        let mut x = [0.0; BLOCK];
        (x[0], x[1], x[2], x[3], x[4]) = (-254.0, 1.0, 3.0, 5.0, -1.0);
        let (quants, scale, sum) = rounded(x);
        assert_eq!(quants[..5], [-127, 0, 2, 2, 0]);
        assert_eq!((scale, sum), (2.0, -123));
    }

    #[test]
    fn what_cannot_be_rounded_is_zero_or_shows() {
        assert_eq!(rounded([0.0; BLOCK]), ([0; BLOCK], 0.0, 0));
        assert_eq!(rounded([1e-40; BLOCK]), ([0; BLOCK], 0.0, 0));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; BLOCK];
            x[7] = wrong;
            let (quants, scale, sum) = rounded(x);
            assert!(scale.is_nan() && quants == [0; BLOCK] && sum == 0);
        }
        let (quants, scale, _) = rounded([f32::MAX; BLOCK]);
        assert!(quants == [127; BLOCK] && scale.is_finite());
    }
}
