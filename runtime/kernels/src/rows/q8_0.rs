//! GGUF's Q8_0: units of 32 columns, an f16 scale and 32 signed bytes.

use crate::lanes::BLOCK;
use crate::quants::{Chunk, QuantFormat};
use crate::simd::Dots;
use lime_plan::Format;

pub(crate) struct Q8_0;

impl QuantFormat for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const FACTORS: bool = false;
    const OFFSETS: bool = false;
    const HALVES: bool = false;

    #[inline(always)]
    unsafe fn expand<D: Dots>(units: &[u8], chunk: &mut Chunk) {
        let (units, _) = units.as_chunks::<34>();
        for (block, [low, high, quants @ ..]) in units.iter().enumerate() {
            let quants: &[u8; BLOCK] = quants;
            chunk.scales[block] = u16::from_le_bytes([*low, *high]);
            chunk.quants[block] = quants.map(|byte| byte as i8);
        }
    }
}
