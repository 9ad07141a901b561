//! Products of quantized weights, defined to the bit.
//!
//! An activation row is rounded once, by blocks of 32 columns, to signed bytes and one f32 scale ([`rounded`]). A weight row of
//! any quantized format is, block by block, 32 signed bytes too, a scale and for some formats an offset. The dot product of the
//! bytes of a block is an integer below 2^24: it has no order, and as f32 it is exact. The sums over blocks have one:
//!
//! block `b` goes to lane `b % 16`, b ascending: `lane = fma(w_scale * x_scale, dot, lane)`, and for formats with offsets then
//! `lane = fma(w_offset, x_scale * x_sum, lane)`, where `x_sum` is the sum of the activation's bytes. Where the offset has a factor for
//! each half of a block, `x_sum` is the sum of the bytes times those. Where the halves of a block have factors of their own, whole numbers, the dot
//! product is the sum of the halves' dots times those. The sixteen lanes
//! are added by the tree of all other sums: l+8, l+4, l+2, l+1.
#![allow(
    clippy::needless_range_loop,
    reason = "iterators and closures do not inherit an instruction set, and would stay calls in loops over registers"
)]

mod few;
mod product;
mod rounded;
mod tiles;
mod weights;

pub(crate) use product::{Product, scratch_floats};
pub(crate) use rounded::{QuantRows, packed_bytes, round};

use crate::lanes::BLOCK;
use crate::simd::{Dots, ScalarDots, Simd};
use lime_plan::Format;
use weights::{Chunk, Weights};

/// Blocks of a chunk: one for each lane.
pub(crate) const CHUNK: usize = 16;

/// Sixteen f32 lanes of the instruction set.
pub(crate) type Lanes<D> = <<D as Dots>::S as Simd>::V;

/// What stands in the bytes of a format's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quants {
    /// The quants.
    Signed,
    /// Quants that are so much greater than they should be, which makes them numbers from 0 to 127.
    Greater(i32),
}

/// What is added to the weights of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offsets {
    None,
    /// An offset for each block.
    Blocks,
    /// An offset for each block, times whole numbers of its halves.
    Halves,
}

/// A quantized format: how sixteen blocks of a row, the units at `units`, become registers.
///
/// # Safety
/// All methods: `D` must be available on this machine, and there are the units of a whole chunk.
pub(crate) trait QuantFormat: 'static {
    /// Its name, and so its unit: whole blocks, no more than a chunk.
    const FORMAT: Format;
    /// What [`QuantFormat::pair`] gives.
    const QUANTS: Quants;
    /// What its bytes are at most where they have no sign.
    const GREATEST: u8 = 127;
    /// Whether the halves of a block, of 16 columns, have factors of their own.
    const HALVES: bool = false;
    /// What kind of offsets there are.
    const OFFSETS: Offsets = Offsets::None;

    /// The quants of blocks `2 * pair` and the next.
    unsafe fn pair<D: Dots>(units: *const u8, pair: usize) -> D::Bytes;

    /// The blocks' scales.
    unsafe fn scales<D: Dots>(units: *const u8) -> Lanes<D>;

    /// What the dots of the blocks' first and second halves are multiplied by.
    #[inline(always)]
    unsafe fn half_factors<D: Dots>(_units: *const u8) -> [D::Ints; 2] {
        // SAFETY: passed on to the caller.
        unsafe { [D::zero(); 2] }
    }

    /// The blocks' offsets.
    #[inline(always)]
    unsafe fn offsets<D: Dots>(_units: *const u8) -> Lanes<D> {
        // SAFETY: passed on to the caller.
        unsafe { D::S::splat(0.0) }
    }

    /// What the offsets of the blocks' halves are multiplied by.
    #[inline(always)]
    unsafe fn offset_factors<D: Dots>(_units: *const u8) -> [D::Ints; 2] {
        // SAFETY: passed on to the caller.
        unsafe { [D::zero(); 2] }
    }
}

/// Bytes of so many blocks.
#[inline(always)]
pub(crate) const fn stored_bytes<F: QuantFormat>(blocks: usize) -> usize {
    let Some(unit) = F::FORMAT.unit() else { return 0 };
    blocks * BLOCK / unit.columns * unit.bytes
}

/// Writes a stored row as f32.
pub(crate) fn decode<F: QuantFormat>(row: &[u8], into: &mut [f32]) {
    let mut chunk = Chunk::ZERO;
    for (units, into) in row.chunks(stored_bytes::<F>(CHUNK)).zip(into.chunks_mut(CHUNK * BLOCK)) {
        let blocks = into.len() / BLOCK;
        assert_eq!(units.len(), stored_bytes::<F>(blocks), "stored blocks");
        // SAFETY: portable code is available everywhere, so many blocks are there, and only the last ones are fewer than a chunk.
        let weights = unsafe { Weights::<ScalarDots>::load::<F>(chunk.whole::<F>(units.as_ptr(), blocks)) };
        for (block, into) in into.chunks_mut(BLOCK).enumerate() {
            for (column, into) in into.iter_mut().enumerate() {
                let half = column / (BLOCK / 2);
                let byte = weights.bytes[block / 2][block % 2 * BLOCK + column];
                let quant = match F::QUANTS {
                    Quants::Signed => i32::from(byte as i8),
                    Quants::Greater(by) => i32::from(byte) - by,
                };
                let scale = weights.scales[block];
                let scale = if F::HALVES { scale * weights.factors[half][block] as f32 } else { scale };
                let offset = match F::OFFSETS {
                    Offsets::None => 0.0,
                    Offsets::Blocks => weights.offsets[block],
                    Offsets::Halves => weights.offsets[block] * weights.offset_factors[half][block] as f32,
                };
                *into = quant as f32 * scale + offset;
            }
        }
    }
}
