//! One row of a matrix as f32, whatever its format.

use crate::compact::{Expand, GROUP, STRIPE};
use crate::convert::decode;
use crate::isa::Isa;
use crate::lanes::BLOCK;
use crate::matrix::Matrix;
use crate::quants::{self, QuantFormat};
use crate::rows::{FloatFormat, FloatReader as _, FloatRows as _, FormatTask, visit};
use crate::simd::Element as _;

impl Matrix<'_> {
    /// Writes row `index` to `into` as f32. `isa` changes no result; this machine must have it.
    ///
    /// # Panics
    /// When there is no such row, or `into` is not `in_features` long.
    pub fn decode_row(&self, index: usize, isa: Isa, into: &mut [f32]) {
        assert_eq!(into.len(), self.in_features(), "room for a row");
        self.check_row(index);
        visit(self.format(), DecodeRow { matrix: self, index, isa, into });
    }
}

struct DecodeRow<'a, 'b> {
    matrix: &'a Matrix<'a>,
    index: usize,
    isa: Isa,
    into: &'b mut [f32],
}

impl FormatTask for DecodeRow<'_, '_> {
    type Output = ();

    fn floats<F: FloatFormat>(self) {
        /// Columns that are read at a time: whole groups and stripes of formats that are expanded.
        const PART: usize = GROUP * STRIPE;
        let mut part = [0u8; PART * 4];
        let (mut row, expand) = (F::rows(self.matrix).row(self.index), Expand::of(self.isa));
        let ty = F::Element::TYPE;
        for into in self.into.chunks_mut(PART) {
            // SAFETY: the row has so many columns left, which may end within a block, and the part has room for them.
            let stored = unsafe {
                let at = row.next(expand, into.len().div_ceil(BLOCK), part.as_mut_ptr(), 0);
                std::slice::from_raw_parts(at, into.len() * ty.size() as usize)
            };
            decode(ty, stored, into);
        }
    }

    fn quants<F: QuantFormat>(self) {
        quants::decode::<F>(self.matrix.row(self.index), self.into);
    }
}
