//! MXFP4 as GGUF stores it: units of 32 columns, a byte with the exponent of the scale, and 16 bytes, whose low halves are the first 16
//! columns. A half of a byte is a number of four bits with two for its exponent.

use lime_plan::Format;

use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Mxfp4;

/// What a half of a byte stands for, twice: a half is among them.
const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the scale with this exponent, 2 to its power less 127.
#[inline(always)]
fn half_scale(exponent: u8) -> f32 {
    // The two least are below the numbers with a full exponent.
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { u32::from(exponent - 1) << 23 })
}

impl QuantFormat for Mxfp4 {
    const FORMAT: Format = Format::Mxfp4;
    const FACTORS: bool = true;
    const OFFSETS: bool = false;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        /// One, as f16: the scale's powers of two are no numbers of that type.
        const ONE: u16 = 0x3c00;
        let (units, _) = units.as_chunks::<17>();
        for (block, [exponent, quants @ ..]) in units.iter().enumerate() {
            (chunk.scales[block], chunk.factors[block]) = (ONE, half_scale(*exponent));
            // SAFETY: the caller's instruction set.
            chunk.quants[block] = unsafe { D::levels(&LEVELS, quants) };
        }
    }
}
