//! GGUF's Q6_K: units of 256 columns, 16 scales of a byte, one for each 16 columns, and an f16 number that they are multiplied
//! by. Weights of six bits, 32 too great: 128 bytes with the low four bits, 64 with the others.

use lime_plan::Format;

use crate::lanes::{BLOCK, HALF};
use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Q6K;

impl QuantFormat for Q6K {
    const FORMAT: Format = Format::Q6K;
    const FACTORS: bool = false;
    const OFFSETS: bool = false;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<210>();
        for (index, bytes) in units.iter().enumerate() {
            let (lows, rest) = bytes.split_at(128);
            let (highs, rest) = rest.split_at(64);
            let (scales, scale) = rest.split_at(16);
            for block in 0..8 {
                // Half a unit is four blocks: two share the bytes of low bits, and all four those of high bits.
                let (half, quarter) = (block / 4, block % 4);
                let lows = &lows[64 * half + quarter % 2 * BLOCK..][..BLOCK];
                let highs = &highs[BLOCK * half..][..BLOCK];
                let at = 8 * index + block;
                chunk.scales[at] = u16::from_le_bytes([scale[0], scale[1]]);
                for (factors, scale) in chunk.half_factors.iter_mut().zip(&scales[2 * block..]) {
                    factors[at] = f32::from(*scale as i8);
                }
                for (column, (low, high)) in lows.iter().zip(highs).enumerate() {
                    let quant = (low >> (quarter / 2 * 4) & 15 | (high >> (2 * quarter) & 3) << 4) as i8 - 32;
                    let into = if column < HALF { &mut chunk.quants } else { &mut chunk.second };
                    into[at][column] = quant;
                }
            }
        }
    }
}
