//! GGUF's Q3_K: units of 256 columns. 32 bytes with the third bits, which are there where nothing is taken off; 64 bytes with two bits
//! for each column; twelve bytes with a scale of six bits for each 16 columns, 32 too great; and an f16 number that they multiply.

use lime_plan::Format;

use crate::lanes::{BLOCK, HALF};
use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Q3K;

/// Scale `index` of 16.
#[inline(always)]
fn scale(packed: &[u8], index: usize) -> i8 {
    let low = packed[index % 8] >> (index / 8 * 4) & 15;
    let high = packed[8 + index % 4] >> (index / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

impl QuantFormat for Q3K {
    const FORMAT: Format = Format::Q3K;
    const FACTORS: bool = false;
    const OFFSETS: bool = false;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<110>();
        for (index, bytes) in units.iter().enumerate() {
            let (thirds, rest) = bytes.split_at(32);
            let (lows, rest) = rest.split_at(64);
            let (scales, number) = rest.split_at(12);
            for block in 0..8 {
                let at = 8 * index + block;
                chunk.scales[at] = u16::from_le_bytes([number[0], number[1]]);
                for half in 0..2 {
                    chunk.half_factors[half][at] = scale(scales, 2 * block + half).into();
                }
                // Four blocks share 32 bytes of low bits, and all eight the 32 of third ones.
                let lows = &lows[block / 4 * BLOCK..][..BLOCK];
                for (column, (low, third)) in lows.iter().zip(thirds).enumerate() {
                    let quant = (low >> (2 * (block % 4)) & 3 | (third >> block & 1) << 2) as i8 - 4;
                    let into = if column < HALF { &mut chunk.quants } else { &mut chunk.second };
                    into[at][column] = quant;
                }
            }
        }
    }
}
