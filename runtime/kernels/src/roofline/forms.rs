//! Raw and compact weights compared: what the compact form gains where memory is slow, and costs where it is not.

use std::time::Instant;

use lime_plan::{Dtype, Format};

use crate::buffer::{AlignedBuf, BufferError};
use crate::compact::{Compactor, compact_bytes};
use crate::convert::encode;
use crate::kernels::Kernels;
use crate::matrix::Matrix;
use crate::packed::PackedRows;

/// bf16 weights per second in products; times two, or times [`Forms::compact_share`] and two, they are bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FormSpeed {
    /// Of raw weights.
    pub raw: f64,
    /// Of compact weights.
    pub compact: f64,
}

/// Copies of a matrix of Gaussian weights in both forms.
#[derive(Debug)]
pub struct Forms {
    out: usize,
    columns: usize,
    raw: Vec<AlignedBuf>,
    compact: Vec<AlignedBuf>,
}

impl Forms {
    /// As many copies of a matrix of `out` rows x `columns` as hold `bytes` of raw weights.
    ///
    /// # Errors
    /// When there is no memory for them.
    ///
    /// # Panics
    /// When the matrix is empty, or too small for its weights to be surely compact.
    pub fn new(out: usize, columns: usize, bytes: usize) -> Result<Self, BufferError> {
        let mut raw = AlignedBuf::new(out * columns * 2)?;
        let mut noise = Noise(1);
        let mut row = vec![0.0; columns];
        for bytes in raw.chunks_exact_mut(columns * 2) {
            row.fill_with(|| noise.gaussian() * 0.03);
            encode(Dtype::Bf16, &row, bytes);
        }
        let mut compact = AlignedBuf::new(compact_bytes(out, columns) as usize)?;
        let mut sink = |at: u64, part: &[u8]| {
            compact[at as usize..][..part.len()].copy_from_slice(part);
            Ok(())
        };
        let mut compactor = Compactor::new(out, columns).expect("a matrix");
        compactor.push_rows(&raw, &mut sink).expect("Gaussian weights are compact");
        compactor.finish(&mut sink).expect("all rows were given");
        let copies = bytes.div_ceil(raw.len()).max(1);
        Ok(Self { out, columns, raw: copied(raw, copies)?, compact: copied(compact, copies)? })
    }

    /// Bytes of the compact form over those of the raw one.
    pub fn compact_share(&self) -> f64 {
        self.compact[0].len() as f64 / self.raw[0].len() as f64
    }

    /// Weights per second in products with `rows` rows: the two forms by turns, `rounds` times over the first `copies`
    /// copies. The best product of each counts, so that other work on the machine counts little.
    pub fn pace(&self, kernels: &Kernels, rows: usize, copies: usize, rounds: usize) -> FormSpeed {
        let x: Vec<f32> = (0..rows * self.columns).map(|at| ((at * 53 % 97) as f32 - 48.0) / 48.0).collect();
        let mut packed = PackedRows::for_isa(kernels.isa());
        packed.pack(Dtype::Bf16, &x, rows, self.columns);
        let mut y = vec![0.0; rows * self.out];
        let mut best = |matrices: &mut dyn Iterator<Item = Matrix<'_>>| {
            matrices.take(copies).fold(f64::INFINITY, |best, matrix| {
                let start = Instant::now();
                kernels.linear(&matrix, &packed, None, &mut y);
                best.min(start.elapsed().as_secs_f64())
            })
        };
        let (mut raw, mut compact) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..rounds {
            let matrix = |bytes| Matrix::new(bytes, Dtype::Bf16, self.out, self.columns).expect("the shape");
            raw = raw.min(best(&mut self.raw.iter().map(|bytes| matrix(bytes))));
            let matrix = |bytes| Matrix::new(bytes, Format::CompactBf16, self.out, self.columns).expect("the shape");
            compact = compact.min(best(&mut self.compact.iter().map(|bytes| matrix(bytes))));
        }
        let weights = (self.out * self.columns) as f64;
        FormSpeed { raw: weights / raw, compact: weights / compact }
    }
}

fn copied(first: AlignedBuf, copies: usize) -> Result<Vec<AlignedBuf>, BufferError> {
    let mut all = vec![first];
    for _ in 1..copies {
        let mut copy = AlignedBuf::new(all[0].len())?;
        copy.copy_from_slice(&all[0]);
        all.push(copy);
    }
    Ok(all)
}

/// Pseudorandom numbers (SplitMix64).
struct Noise(u64);

impl Noise {
    /// From 0 to 1, 0 excluded.
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x >> 40) + 1) as f32 / (1 << 24) as f32
    }

    /// Standard normal, by Box and Muller.
    fn gaussian(&mut self) -> f32 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f32::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn both_forms_have_a_pace() {
        let forms = Forms::new(128, 512, 300_000).unwrap();
        assert_eq!((forms.raw.len(), forms.compact.len()), (3, 3));
        assert!(forms.compact_share() < 0.75);
        for rows in [1, 5] {
            let pace = forms.pace(&Kernels::new(Isa::detect(), 2), rows, 2, 1);
            assert!(pace.raw > 0.0 && pace.compact > 0.0, "{pace:?}");
        }
    }
}
