//! GGUF's Q4_1: units of 32 columns, an f16 scale, an f16 offset and 16 bytes. Their low halves are the first 16 columns, their
//! high halves the others.

use lime_plan::Format;

use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Q4_1;

impl QuantFormat for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const FACTORS: bool = false;
    const OFFSETS: bool = true;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<20>();
        for (block, [low, high, offset_low, offset_high, quants @ ..]) in units.iter().enumerate() {
            chunk.scales[block] = u16::from_le_bytes([*low, *high]);
            chunk.offsets[block] = u16::from_le_bytes([*offset_low, *offset_high]);
            chunk.offset_factors[block] = 1.0;
            let into = &mut chunk.quants[block];
            for (at, byte) in quants.iter().enumerate() {
                into[at] = (byte & 15) as i8;
                into[at + 16] = (byte >> 4) as i8;
            }
        }
    }
}
