//! Activation rows as the weights of a format want them.

use lime_plan::{Dtype, Format};

use crate::buffer::AlignedBuf;
use crate::isa::Isa;
use crate::lanes::{BLOCK, GEMV_ROWS, HALF, TileLayout};
use crate::quants::{self, QuantRows};

/// What a product takes activations as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// f32 lanes, columns at even and at odd places apart.
    Pairs,
    /// f32 lanes, the first and the second half of each block apart.
    Halves,
    /// Rounded to bytes by block.
    Bytes,
}

impl From<Format> for Operand {
    fn from(format: Format) -> Self {
        match format {
            Format::Bf16 | Format::CompactBf16 => Self::Pairs,
            Format::F16 | Format::F32 => Self::Halves,
            // All others are quantized.
            _ => Self::Bytes,
        }
    }
}

impl From<Dtype> for Operand {
    fn from(ty: Dtype) -> Self {
        Format::from(ty).into()
    }
}

/// Activation rows split once into the lanes of the canonical order or rounded once to bytes, zero-padded to whole blocks.
/// Reusable: memory only grows.
///
/// Lanes of up to three rows are laid out for the GEMV: for every row all `first` lanes (16 per block), then all `second`
/// lanes. More rows are laid out for the GEMM's sweeps: `[group][sweep of k][tile of rows][block][row][lane]`.
#[derive(Debug)]
pub struct PackedRows {
    operand: Operand,
    layout: TileLayout,
    rows: usize,
    cols: usize,
    data: Option<AlignedBuf>,
}

impl Default for PackedRows {
    fn default() -> Self {
        Self::new()
    }
}

impl PackedRows {
    /// No rows yet, no memory taken; the layout is that of the machine's instruction set.
    pub fn new() -> Self {
        Self::for_isa(Isa::detect())
    }

    /// As [`PackedRows::new`] for kernels on `isa`. Kernels take any layout; one that is not theirs costs them a
    /// second packing.
    pub const fn for_isa(isa: Isa) -> Self {
        Self { operand: Operand::Halves, layout: TileLayout::of(isa), rows: 0, cols: 0, data: None }
    }

    /// Bytes that `rows` rows of `cols` elements take.
    pub const fn bytes(rows: usize, cols: usize) -> usize {
        rows * cols.next_multiple_of(BLOCK) * size_of::<f32>()
    }

    /// Packs `rows` rows of `cols` elements for weights of some type, or as an operand.
    ///
    /// # Panics
    /// When `x` is not `rows * cols` long, or memory cannot be had.
    pub fn pack(&mut self, operand: impl Into<Operand>, x: &[f32], rows: usize, cols: usize) {
        let operand = operand.into();
        assert!(cols > 0, "activation rows without elements");
        assert_eq!(Some(x.len()), rows.checked_mul(cols), "activations of {rows} rows x {cols}");
        self.shape(operand, rows, cols);
        let (places, stride) = (self.places(), self.stride());
        let Some(data) = self.data.as_mut() else { return };
        if operand == Operand::Bytes {
            quants::round(x, cols, &mut data[..quants::packed_bytes(rows, stride / BLOCK)]);
            return;
        }
        let packed = data.as_f32_mut(0..rows * stride);
        for (row, x) in x.chunks_exact(cols).enumerate() {
            let (body, tail) = x.as_chunks::<BLOCK>();
            for (block, x) in body.iter().enumerate() {
                places.put(packed, row, block, &lanes(operand, x));
            }
            if !tail.is_empty() {
                let mut x = [0.0; BLOCK];
                x[..tail.len()].copy_from_slice(tail);
                places.put(packed, row, body.len(), &lanes(operand, &x));
            }
        }
    }

    /// The same rows in the layout of `isa`.
    pub(crate) fn relaid(&self, isa: Isa) -> Self {
        let mut other = Self::for_isa(isa);
        other.shape(self.operand, self.rows, self.cols);
        let (from, to, stride) = (self.places(), other.places(), self.stride());
        if let (Some(data), Some(other)) = (self.data.as_ref(), other.data.as_mut()) {
            let (data, other) = (data.as_f32(0..self.rows * stride), other.as_f32_mut(0..self.rows * stride));
            for row in 0..self.rows {
                for block in 0..stride / BLOCK {
                    to.put(other, row, block, &from.get(data, row, block));
                }
            }
        }
        other
    }

    /// Whether kernels on `isa` can read the rows as they lie.
    pub(crate) fn suits(&self, isa: Isa) -> bool {
        self.operand == Operand::Bytes || self.rows <= GEMV_ROWS || self.layout == TileLayout::of(isa)
    }

    /// What the rows are packed as.
    pub const fn operand(&self) -> Operand {
        self.operand
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row, without padding.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Elements of a row, with padding.
    pub(crate) const fn stride(&self) -> usize {
        self.cols.next_multiple_of(BLOCK)
    }

    /// The rows as bytes.
    pub(crate) fn quants(&self) -> QuantRows {
        let blocks = self.stride() / BLOCK;
        let data = self.data.as_ref().filter(|_| self.operand == Operand::Bytes).map_or(&[][..], |data| data);
        QuantRows::new(data, if data.is_empty() { 0 } else { self.rows }, blocks)
    }

    /// The lanes of every row; none where they are bytes.
    pub(crate) fn data(&self) -> &[f32] {
        let len = if self.operand == Operand::Bytes { 0 } else { self.rows * self.stride() };
        self.data.as_ref().map_or(&[], |data| data.as_f32(0..len))
    }

    /// Takes a new shape, and memory where what is there does not suffice.
    fn shape(&mut self, operand: Operand, rows: usize, cols: usize) {
        let needed = Self::bytes(rows, cols);
        if self.data.as_ref().is_none_or(|data| data.len() < needed) {
            self.data = None;
            self.data = Some(AlignedBuf::new(needed).expect("memory for packed activations"));
        }
        (self.operand, self.rows, self.cols) = (operand, rows, cols);
    }

    fn places(&self) -> Places {
        Places { layout: self.layout, rows: self.rows, blocks: self.stride() / BLOCK }
    }
}

/// Where the lanes of a block lie.
struct Places {
    layout: TileLayout,
    rows: usize,
    blocks: usize,
}

impl Places {
    /// The start of the group that begins at lane `lane`.
    fn at(&self, row: usize, block: usize, lane: usize) -> usize {
        if self.rows <= GEMV_ROWS {
            return row * self.blocks * BLOCK + lane / HALF * self.blocks * HALF + block * HALF + lane % HALF;
        }
        let TileLayout { group, rows: tile } = self.layout;
        let sweep_start = block / self.layout.sweep() * self.layout.sweep();
        let sweep = self.layout.sweep().min(self.blocks - sweep_start);
        let tile_start = row / tile * tile;
        let height = tile.min(self.rows - tile_start);
        let groups = lane / group * self.blocks * self.rows;
        (groups + sweep_start * self.rows + tile_start * sweep + (block - sweep_start) * height + row - tile_start)
            * group
    }

    fn put(&self, packed: &mut [f32], row: usize, block: usize, lanes: &[f32; BLOCK]) {
        for (i, group) in lanes.chunks_exact(self.layout.group).enumerate() {
            let at = self.at(row, block, i * self.layout.group);
            packed[at..at + group.len()].copy_from_slice(group);
        }
    }

    fn get(&self, packed: &[f32], row: usize, block: usize) -> [f32; BLOCK] {
        let mut lanes = [0.0; BLOCK];
        for (i, group) in lanes.chunks_exact_mut(self.layout.group).enumerate() {
            let at = self.at(row, block, i * self.layout.group);
            group.copy_from_slice(&packed[at..at + group.len()]);
        }
        lanes
    }
}

/// A block in lane order: `first`, then `second`.
#[inline]
fn lanes(operand: Operand, x: &[f32; BLOCK]) -> [f32; BLOCK] {
    match operand {
        Operand::Pairs => std::array::from_fn(|l| x[l % HALF * 2 + l / HALF]),
        Operand::Halves | Operand::Bytes => *x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_follow_the_dtype_and_are_padded() {
        let x: Vec<f32> = (0..35).map(|i| i as f32 + 1.0).collect();
        let mut packed = PackedRows::new();
        packed.pack(Dtype::Bf16, &x, 1, 35);
        assert_eq!(packed.stride(), 64);
        assert_eq!(packed.data()[..3], [1.0, 3.0, 5.0]);
        assert_eq!(packed.data()[16..19], [33.0, 35.0, 0.0]);
        assert_eq!(packed.data()[32..34], [2.0, 4.0]);
        assert_eq!(packed.data()[48..50], [34.0, 0.0]);
        packed.pack(Dtype::F16, &x, 1, 35);
        assert_eq!(packed.data()[..2], [1.0, 2.0]);
        assert_eq!(packed.data()[16..20], [33.0, 34.0, 35.0, 0.0]);
        assert_eq!(packed.data()[32..34], [17.0, 18.0]);
    }

    #[test]
    fn rounded_rows_fit_into_the_room_of_lanes() {
        for rows in 1..200 {
            for blocks in 1..40 {
                assert!(quants::packed_bytes(rows, blocks) <= PackedRows::bytes(rows, blocks * BLOCK));
            }
        }
    }

    #[test]
    fn every_layout_holds_every_element_once() {
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon] {
            for (rows, cols) in [(1, 40), (3, 64), (4, 33), (7, 1100), (13, 2080)] {
                let x: Vec<f32> = (0..rows * cols).map(|i| i as f32 + 1.0).collect();
                let mut packed = PackedRows::for_isa(isa);
                packed.pack(Dtype::F32, &x, rows, cols);
                let places = packed.places();
                let unpacked: Vec<f32> = (0..rows)
                    .flat_map(|row| {
                        let row: Vec<f32> =
                            (0..packed.stride() / BLOCK).flat_map(|b| places.get(packed.data(), row, b)).collect();
                        row[..cols].to_vec()
                    })
                    .collect();
                assert_eq!(unpacked, x);
                let again = packed.relaid(Isa::Scalar).relaid(isa);
                assert_eq!(again.data(), packed.data());
            }
        }
    }
}
