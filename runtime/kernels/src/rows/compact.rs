//! bf16 in compact form: expanded as it is read.

use super::{FloatFormat, FloatReader, FloatRows};
use crate::compact::{CompactLayout, CompactRows, Expand, GROUP, RowReader};
use crate::lanes::BLOCK;
use crate::matrix::Matrix;
use crate::simd::StoredBf16;

/// See [`crate::compact`].
pub(crate) struct CompactBf16;

impl FloatFormat for CompactBf16 {
    type Element = StoredBf16;
    type Rows<'a> = CompactRows<'a>;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn rows<'a>(matrix: &Matrix<'a>) -> CompactRows<'a> {
        let layout = CompactLayout::of(matrix.out_features(), matrix.in_features());
        CompactRows::new(matrix.bytes(), layout.expect("the matrix was made with this shape"))
    }
}

impl<'a> FloatRows for CompactRows<'a> {
    type Reader = RowReader<'a>;

    #[inline(always)]
    fn stride(&self) -> usize {
        self.record_bytes()
    }

    #[inline(always)]
    fn row(&self, index: usize) -> RowReader<'a> {
        self.reader(index)
    }
}

impl FloatReader for RowReader<'_> {
    #[inline(always)]
    unsafe fn next(&mut self, expand: Expand, blocks: usize, scratch: *mut u8, ahead: usize) -> *const u8 {
        let groups = (blocks * BLOCK).div_ceil(GROUP);
        // SAFETY: the caller found room for whole groups there, and nothing else uses it while the slice lives.
        let part = unsafe { std::slice::from_raw_parts_mut(scratch, groups * GROUP * 2) };
        self.expand(expand, groups, part, ahead);
        scratch
    }
}
