//! GGUF's Q5_0 and Q5_1: as Q4_0 and Q4_1 with four bytes more, whose bits are the fifth of the columns in order. Weights of
//! Q5_0 are 16 too great.

use lime_plan::Format;

use crate::lanes::BLOCK;
use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Q5_0;
pub(crate) struct Q5_1;

/// The 32 columns of fifth bits and halves of bytes, each `less`.
#[inline(always)]
fn columns(fifths: [u8; 4], quants: &[u8; 16], less: i8, into: &mut [i8; BLOCK]) {
    let fifths = u32::from_le_bytes(fifths);
    for (at, byte) in quants.iter().enumerate() {
        into[at] = (byte & 15 | ((fifths >> at & 1) << 4) as u8) as i8 - less;
        into[at + 16] = (byte >> 4 | ((fifths >> (at + 16) & 1) << 4) as u8) as i8 - less;
    }
}

impl QuantFormat for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const FACTORS: bool = false;
    const OFFSETS: bool = false;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<22>();
        for (block, [low, high, a, b, c, d, quants @ ..]) in units.iter().enumerate() {
            chunk.scales[block] = u16::from_le_bytes([*low, *high]);
            columns([*a, *b, *c, *d], quants, 16, &mut chunk.quants[block]);
        }
    }
}

impl QuantFormat for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    const FACTORS: bool = false;
    const OFFSETS: bool = true;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<24>();
        for (block, [low, high, offset_low, offset_high, a, b, c, d, quants @ ..]) in units.iter().enumerate() {
            chunk.scales[block] = u16::from_le_bytes([*low, *high]);
            chunk.offsets[block] = u16::from_le_bytes([*offset_low, *offset_high]);
            chunk.offset_factors[block] = 1.0;
            columns([*a, *b, *c, *d], quants, 0, &mut chunk.quants[block]);
        }
    }
}
