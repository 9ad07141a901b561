//! GGUF's IQ4_NL and IQ4_XS: halves of bytes that stand for one of sixteen numbers. IQ4_NL has units of 32 columns, an f16 scale and
//! 16 bytes, whose low halves are the first 16 columns. IQ4_XS has units of 256: an f16 number, the high two bits of eight
//! factors, their low four, and eight times 16 bytes. A factor is 32 too great.

use lime_plan::Format;

use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Iq4Nl;
pub(crate) struct Iq4Xs;

/// What a half of a byte stands for.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

impl QuantFormat for Iq4Nl {
    const FORMAT: Format = Format::Iq4Nl;
    const FACTORS: bool = false;
    const OFFSETS: bool = false;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<18>();
        for (block, [low, high, quants @ ..]) in units.iter().enumerate() {
            chunk.scales[block] = u16::from_le_bytes([*low, *high]);
            // SAFETY: the caller's instruction set.
            chunk.quants[block] = unsafe { D::levels(&LEVELS, quants) };
        }
    }
}

impl QuantFormat for Iq4Xs {
    const FORMAT: Format = Format::Iq4Xs;
    const FACTORS: bool = true;
    const OFFSETS: bool = false;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<136>();
        for (index, [low, high, highs_low, highs_high, a, b, c, d, quants @ ..]) in units.iter().enumerate() {
            let (highs, lows) = (u16::from_le_bytes([*highs_low, *highs_high]), [*a, *b, *c, *d]);
            let (quants, _) = quants.as_chunks::<16>();
            for (block, quants) in quants.iter().enumerate() {
                let at = 8 * index + block;
                let factor = lows[block / 2] >> (block % 2 * 4) & 15 | ((highs >> (2 * block) & 3) << 4) as u8;
                chunk.scales[at] = u16::from_le_bytes([*low, *high]);
                chunk.factors[at] = f32::from(factor) - 32.0;
                // SAFETY: the caller's instruction set.
                chunk.quants[at] = unsafe { D::levels(&LEVELS, quants) };
            }
        }
    }
}
