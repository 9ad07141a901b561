//! Rotary position embedding, rotate-half form.

use crate::kernels::Kernels;

/// Elements of a parallel task, at least.
const TASK_ELEMENTS: usize = 16 << 10;

/// Cosines and sines of every position and frequency, computed in f64 by portable code.
#[derive(Clone, Debug)]
pub struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// The table of `positions` positions for the angular frequencies `inv_freq` (head_dim / 2 of them);
    /// `attention_factor` scales both.
    pub fn new(inv_freq: &[f64], positions: usize, attention_factor: f64) -> Self {
        let angles = (0..positions).flat_map(|position| inv_freq.iter().map(move |f| position as f64 * f));
        let (mut cos, mut sin): (Vec<f32>, Vec<f32>) = angles
            .map(|angle| ((libm::cos(angle) * attention_factor) as f32, (libm::sin(angle) * attention_factor) as f32))
            .unzip();
        // Collecting leaves room to spare, which no plan counts.
        cos.shrink_to_fit();
        sin.shrink_to_fit();
        Self { half: inv_freq.len(), cos, sin }
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Frequencies of a position: half of the dimensions that are rotated.
    pub const fn half(&self) -> usize {
        self.half
    }

    /// Bytes that a table takes.
    pub const fn bytes(positions: usize, half: usize) -> usize {
        2 * positions * half * size_of::<f32>()
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

impl Kernels {
    /// Rotates every head of every row of `x` (positions x heads x head_dim) to its position. Where the table
    /// has fewer than head_dim / 2 frequencies, the dimensions beyond them stay as they are.
    ///
    /// # Panics
    /// When lengths do not fit, or a position lies beyond the table.
    pub fn rope(&self, x: &mut [f32], heads: usize, head_dim: usize, positions: &[u32], table: &RopeTable) {
        let row = heads.checked_mul(head_dim).expect("heads x head_dim");
        assert_eq!(Some(x.len()), row.checked_mul(positions.len()), "rows to rotate");
        assert!(2 * table.half <= head_dim, "{} frequencies for a head of {head_dim}", table.half);
        for &position in positions {
            assert!((position as usize) < table.positions(), "position {position} beyond the RoPE table");
        }
        if row == 0 {
            return;
        }
        let rows = TASK_ELEMENTS.div_ceil(row);
        self.for_parts(x, rows * row, |start, x| {
            for (x, &position) in x.chunks_exact_mut(row).zip(&positions[start / row..]) {
                let (cos, sin) = table.at(position as usize);
                x.chunks_exact_mut(head_dim).for_each(|head| rotate(head, cos, sin));
            }
        });
    }
}

fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head[..2 * cos.len()].split_at_mut(cos.len());
    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn rotates_by_the_angle_of_its_position() {
        let table = RopeTable::new(&[1.0, 0.25], 8, 1.0);
        assert_eq!((table.positions(), table.half()), (8, 2));
        let mut x = vec![1.0f32, 2.0, 3.0, 4.0, 9.0, 9.0, 9.0, 9.0];
        let kernels = Kernels::new(Isa::Scalar, 1);
        kernels.rope(&mut x[..4], 1, 4, &[5], &table);
        for (i, frequency) in [1.0f64, 0.25].into_iter().enumerate() {
            let (sin, cos) = (5.0 * frequency).sin_cos();
            let (a, b) = (i as f64 + 1.0, i as f64 + 3.0);
            assert!((f64::from(x[i]) - (a * cos - b * sin)).abs() < 1e-6);
            assert!((f64::from(x[i + 2]) - (b * cos + a * sin)).abs() < 1e-6);
        }
        let before = x.clone();
        kernels.rope(&mut x, 1, 4, &[0, 0], &table);
        assert_eq!(x, before);
    }

    #[test]
    #[should_panic(expected = "beyond the RoPE table")]
    fn a_position_beyond_the_table_panics() {
        let table = RopeTable::new(&[1.0, 0.25], 8, 1.0);
        Kernels::new(Isa::Scalar, 1).rope(&mut [0.0; 4], 1, 4, &[8], &table);
    }
}
