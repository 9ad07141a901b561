//! GGUF's Q2_K: units of 256 columns. 16 bytes with two factors of four bits for each 16 columns, of the scale in the low half and of
//! the offset in the high one; 64 bytes with two bits for each column; and the two f16 numbers that the factors multiply.

use lime_plan::Format;

use crate::lanes::{BLOCK, HALF};
use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Q2K;

impl QuantFormat for Q2K {
    const FORMAT: Format = Format::Q2K;
    const FACTORS: bool = false;
    const OFFSETS: bool = true;
    const HALVES: bool = false;
    const OFFSET_BYTES: bool = true;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<84>();
        for (index, bytes) in units.iter().enumerate() {
            let (factors, rest) = bytes.split_at(16);
            let (quants, numbers) = rest.split_at(64);
            for block in 0..8 {
                let at = 8 * index + block;
                chunk.scales[at] = u16::from_le_bytes([numbers[0], numbers[1]]);
                chunk.offsets[at] = u16::from_le_bytes([numbers[2], numbers[3]]);
                chunk.offset_factors[at] = -1.0;
                // Four blocks share 32 bytes.
                let quants = &quants[block / 4 * BLOCK..][..BLOCK];
                for (half, factor) in factors[2 * block..][..2].iter().enumerate() {
                    // A weight times its factor is at most 45: a byte.
                    let (factor, offset) = (factor & 15, factor >> 4);
                    let columns = half * HALF..(half + 1) * HALF;
                    let places = chunk.quants[at][columns.clone()].iter_mut();
                    for (place, bits) in places.zip(&quants[columns.clone()]) {
                        *place = ((bits >> (2 * (block % 4)) & 3) * factor) as i8;
                    }
                    chunk.second[at][columns].fill(offset as i8);
                }
            }
        }
    }
}
