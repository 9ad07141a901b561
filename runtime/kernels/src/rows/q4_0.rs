//! GGUF's Q4_0: units of 32 columns, an f16 scale and 16 bytes. Their low halves are the first 16 columns, their high halves
//! the others; a half is a weight of -8 to 7, eight too great.

use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;
use lime_plan::Format;

pub(crate) struct Q4_0;

impl QuantFormat for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const FACTORS: bool = false;
    const OFFSETS: bool = false;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<18>();
        for (block, [low, high, quants @ ..]) in units.iter().enumerate() {
            chunk.scales[block] = u16::from_le_bytes([*low, *high]);
            let into = &mut chunk.quants[block];
            for (at, byte) in quants.iter().enumerate() {
                into[at] = (byte & 15) as i8 - 8;
                into[at + 16] = (byte >> 4) as i8 - 8;
            }
        }
    }
}
