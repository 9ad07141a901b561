//! Random weights in GGUF's quantized formats: every unit is made of random bytes with scales that make its weights about as large as
//! trained ones.

use std::io::{self, Write};

use lime_plan::Format;

use crate::synthetic::Tensor;

/// Greatest magnitude of a weight.
const GREATEST: f32 = 0.08;

/// What a file's tensors are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All matrices in one format.
    All(Format),
    /// Q4_K, with Q6_K where llama-quantize's Q4_K_M has it: the head, and values and the way down of the first eighth of the layers,
    /// the last, and every third between.
    Q4KM,
}

impl Mix {
    /// How people call a file of this kind.
    pub fn name(self) -> String {
        match self {
            Self::All(format) => format.to_string(),
            Self::Q4KM => "Q4_K_M".to_owned(),
        }
    }

    /// The format of a tensor of a model of `layers` layers.
    pub fn format(self, tensor: &Tensor, layers: usize) -> Format {
        if tensor.is_norm() {
            return Format::F32;
        }
        let better = |layer: usize| layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
        let layer = tensor.ggml.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse().ok());
        let precious = tensor.ggml.contains("attn_v") || tensor.ggml.contains("ffn_down");
        match self {
            Self::All(format) => format,
            Self::Q4KM if tensor.ggml == "output.weight" => Format::Q6K,
            Self::Q4KM if precious && layer.is_some_and(better) => Format::Q6K,
            Self::Q4KM => Format::Q4K,
        }
    }
}

/// ggml's number for a format, the f16 numbers of a unit that weights are multiplied by, and the greatest whole number that these
/// multiply.
fn form(format: Format) -> Option<(u32, &'static [usize], f32)> {
    Some(match format {
        Format::F32 => (0, &[], 1.0),
        Format::Bf16 => (30, &[], 1.0),
        Format::Q4_0 => (2, &[0], 8.0),
        Format::Q8_0 => (8, &[0], 128.0),
        Format::Q4K => (12, &[0, 2], 63.0 * 15.0),
        Format::Q6K => (14, &[208], 128.0 * 32.0),
        _ => return None,
    })
}

/// ggml's number for a format of which synthetic models are made.
///
/// # Errors
/// When none are.
pub(crate) fn code(format: Format) -> io::Result<u32> {
    form(format)
        .map(|(code, ..)| code)
        .ok_or_else(|| io::Error::other(format!("no synthetic model is stored as {format}")))
}

/// Writes a matrix, fixed by `seed`.
pub(crate) fn write(tensor: &Tensor, format: Format, seed: u64, out: &mut impl Write) -> io::Result<()> {
    let (Some(unit), Some((_, scales, greatest))) = (format.unit(), form(format)) else {
        return Err(io::Error::other(format!("no synthetic model is stored as {format}")));
    };
    let scale = half_bits(GREATEST / greatest);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; unit.bytes.next_multiple_of(8)];
    for _ in 0..tensor.elements() / unit.columns {
        for eight in bytes.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            eight.copy_from_slice(&state.to_le_bytes());
        }
        for at in scales {
            bytes[*at..at + 2].copy_from_slice(&scale);
        }
        out.write_all(&bytes[..unit.bytes])?;
    }
    Ok(())
}

/// A number as f16.
fn half_bits(number: f32) -> [u8; 2] {
    let mut bytes = [0; 2];
    lime_kernels::encode(lime_plan::Dtype::F16, &[number], &mut bytes);
    bytes
}
