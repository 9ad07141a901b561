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

mod product;
mod rounded;

pub(crate) use product::{Product, scratch_floats};
pub(crate) use rounded::{QuantRows, round_row, row_bytes};

use crate::convert::widen_f16;
use crate::lanes::{BLOCK, HALF};
use crate::simd::{Dots, ScalarDots};
use lime_plan::Format;

/// Blocks of a chunk: one for each lane.
pub(crate) const CHUNK: usize = 16;

/// A quantized format.
pub(crate) trait QuantFormat: 'static {
    /// Its name, and so its unit: whole blocks, no more than a chunk.
    const FORMAT: Format;
    /// Whether scales have factors.
    const FACTORS: bool;
    /// Whether blocks have offsets.
    const OFFSETS: bool;
    /// Whether the halves of a block, of 16 columns, have factors of their own: their quants then lie apart.
    const HALVES: bool;
    /// Whether the columns of a block have whole-numbered factors of its offset, which lie where second halves do.
    const OFFSET_BYTES: bool = false;

    /// Writes the blocks of `units`, whole units for a chunk or fewer, to the front of `chunk`.
    ///
    /// # Safety
    /// `D` must be available on this machine.
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk);
}

/// Some blocks of one weight row, expanded.
#[repr(C, align(64))]
#[derive(Clone)]
pub(crate) struct Chunk {
    /// All columns of each block, or the first half of them and zeros.
    pub(crate) quants: [[i8; BLOCK]; CHUNK],
    /// Zeros and the second half, where halves lie apart; the columns' factors of the offset, where there are such.
    pub(crate) second: [[i8; BLOCK]; CHUNK],
    /// What the dots of the halves are multiplied by: whole numbers of at most eight bits.
    pub(crate) half_factors: [[f32; CHUNK]; 2],
    /// Scales as f16.
    pub(crate) scales: [u16; CHUNK],
    /// What a scale is multiplied by.
    pub(crate) factors: [f32; CHUNK],
    /// What is added to all weights of a block, as f16.
    pub(crate) offsets: [u16; CHUNK],
    /// What an offset is multiplied by.
    pub(crate) offset_factors: [f32; CHUNK],
}

impl Chunk {
    pub(crate) const ZERO: Self = Self {
        quants: [[0; BLOCK]; CHUNK],
        second: [[0; BLOCK]; CHUNK],
        half_factors: [[0.0; CHUNK]; 2],
        scales: [0; CHUNK],
        factors: [0.0; CHUNK],
        offsets: [0; CHUNK],
        offset_factors: [0.0; CHUNK],
    };

    /// Takes the blocks from `blocks` on out of every sum.
    #[inline(always)]
    fn end_at(&mut self, blocks: usize) {
        self.scales[blocks..].fill(0);
        self.offsets[blocks..].fill(0);
    }
}

/// Bytes of so many blocks.
pub(crate) const fn stored_bytes<F: QuantFormat>(blocks: usize) -> usize {
    let Some(unit) = F::FORMAT.unit() else { return 0 };
    blocks * BLOCK / unit.columns * unit.bytes
}

/// Writes a stored row as f32.
pub(crate) fn decode<F: QuantFormat>(row: &[u8], into: &mut [f32]) {
    let mut chunk = Chunk::ZERO;
    for (units, into) in row.chunks(stored_bytes::<F>(CHUNK)).zip(into.chunks_mut(CHUNK * BLOCK)) {
        // SAFETY: portable code is available everywhere.
        unsafe { F::expand::<ScalarDots>(units, &mut chunk) };
        for (block, into) in into.chunks_mut(BLOCK).enumerate() {
            let factor = if F::FACTORS { chunk.factors[block] } else { 1.0 };
            let scale = widen_f16(chunk.scales[block]) * factor;
            let offset = if F::OFFSETS { widen_f16(chunk.offsets[block]) * chunk.offset_factors[block] } else { 0.0 };
            for (column, into) in into.iter_mut().enumerate() {
                let offset = if F::OFFSET_BYTES { offset * f32::from(chunk.second[block][column]) } else { offset };
                let (quant, scale) = match column / HALF {
                    half if F::HALVES => {
                        let quants = if half == 0 { &chunk.quants } else { &chunk.second };
                        (quants[block][column], scale * chunk.half_factors[half][block])
                    }
                    _ => (chunk.quants[block][column], scale),
                };
                *into = f32::from(quant) * scale + offset;
            }
        }
    }
}
