//! GGUF's Q4_K and Q5_K: units of 256 columns. Two f16 numbers, for scales and offsets; twelve bytes with eight factors of six
//! bits for each of them; for Q5_K 32 bytes with the fifth bits; and 128 bytes, of which 32 hold two blocks, one in
//! their low halves and one in their high ones.

use lime_plan::Format;

use crate::lanes::BLOCK;
use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;

pub(crate) struct Q4K;
pub(crate) struct Q5K;

/// The factors of scale and offset of block `block` of a unit.
#[inline(always)]
fn factors(packed: &[u8; 12], block: usize) -> (u8, u8) {
    if block < 4 {
        return (packed[block] & 63, packed[block + 4] & 63);
    }
    let both = packed[block + 4];
    (both & 15 | packed[block - 4] >> 6 << 4, both >> 4 | packed[block] >> 6 << 4)
}

/// What the two kinds have in common: all but the fifth bits.
#[inline(always)]
fn unit(head: &[u8; 16], quants: &[u8; 128], first: usize, chunk: &mut Chunk) {
    let [low, high, offset_low, offset_high, packed @ ..] = head;
    for block in 0..8 {
        let (scale, offset) = factors(packed, block);
        chunk.scales[first + block] = u16::from_le_bytes([*low, *high]);
        chunk.factors[first + block] = scale.into();
        chunk.offsets[first + block] = u16::from_le_bytes([*offset_low, *offset_high]);
        chunk.offset_factors[first + block] = -f32::from(offset);
    }
    let (quants, _) = quants.as_chunks::<BLOCK>();
    for (pair, quants) in quants.iter().enumerate() {
        chunk.quants[first + 2 * pair] = quants.map(|byte| (byte & 15) as i8);
        chunk.quants[first + 2 * pair + 1] = quants.map(|byte| (byte >> 4) as i8);
    }
}

impl QuantFormat for Q4K {
    const FORMAT: Format = Format::Q4K;
    const FACTORS: bool = true;
    const OFFSETS: bool = true;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<144>();
        for (index, bytes) in units.iter().enumerate() {
            if let (Some(head), Some(quants)) = (bytes.first_chunk(), bytes.last_chunk()) {
                unit(head, quants, 8 * index, chunk);
            }
        }
    }
}

impl QuantFormat for Q5K {
    const FORMAT: Format = Format::Q5K;
    const FACTORS: bool = true;
    const OFFSETS: bool = true;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<176>();
        for (index, bytes) in units.iter().enumerate() {
            if let (Some(head), Some(quants)) = (bytes.first_chunk(), bytes.last_chunk()) {
                unit(head, quants, 8 * index, chunk);
            }
            let fifths = &bytes[16..48];
            for block in 0..8 {
                for (quant, fifth) in chunk.quants[8 * index + block].iter_mut().zip(fifths) {
                    *quant |= ((fifth >> block & 1) << 4) as i8;
                }
            }
        }
    }
}
