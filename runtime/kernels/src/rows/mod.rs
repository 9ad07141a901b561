//! The formats of weight rows, one a file. A format says how a row is read and which arithmetic its products have; loops over
//! rows are written once for each arithmetic and know no format.
#![allow(
    clippy::needless_range_loop,
    reason = "iterators and closures do not inherit an instruction set, and would stay calls in loops over registers"
)]

mod compact;
mod iq4;
mod mxfp4;
mod plain;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5;
mod q6_k;
mod q8_0;
mod units;

use crate::compact::Expand;
use crate::matrix::Matrix;
use crate::quants::QuantFormat;
use crate::simd::{Element, StoredBf16, StoredF16, StoredF32};
use lime_plan::Format;

/// A format whose weights become f32: the canonical order of f32 lanes.
pub(crate) trait FloatFormat: 'static {
    /// What a block of columns is loaded as.
    type Element: Element;
    /// The rows of a matrix.
    type Rows<'a>: FloatRows;
    /// Whether the columns lie in the matrix as [`Self::Element`]s, so that rows are best read there, far apart.
    const IN_PLACE: bool;

    fn rows<'a>(matrix: &Matrix<'a>) -> Self::Rows<'a>;
}

/// The rows of a matrix in a float format.
pub(crate) trait FloatRows: Copy {
    /// Goes along one row.
    type Reader: FloatReader;

    /// Bytes from a row to the next.
    fn stride(&self) -> usize;

    /// A reader at the start of row `index`.
    fn row(&self, index: usize) -> Self::Reader;
}

/// Reads one row from its first block to its last.
pub(crate) trait FloatReader: Copy {
    /// The next `blocks` blocks as elements: where they lie, or expanded to `scratch`. Memory `ahead` bytes further on is asked
    /// for meanwhile, unless they are read in place: who reads them asks then.
    ///
    /// # Safety
    /// So many blocks are left, the last of which may be cut short by the end of the row. Formats that expand find room for
    /// the elements at `scratch`, in whole groups of theirs.
    unsafe fn next(&mut self, expand: Expand, blocks: usize, scratch: *mut u8, ahead: usize) -> *const u8;
}

/// What is to be done with a matrix, whatever its format.
pub(crate) trait FormatTask {
    type Output;

    fn floats<F: FloatFormat>(self) -> Self::Output;
    fn quants<F: QuantFormat>(self) -> Self::Output;
}

/// Does `task` for `format`: the one place that goes from a name to how it is read.
pub(crate) fn visit<T: FormatTask>(format: Format, task: T) -> T::Output {
    match format {
        Format::F32 => task.floats::<plain::Plain<StoredF32>>(),
        Format::F16 => task.floats::<plain::Plain<StoredF16>>(),
        Format::Bf16 => task.floats::<plain::Plain<StoredBf16>>(),
        Format::CompactBf16 => task.floats::<compact::CompactBf16>(),
        Format::Q8_0 => task.quants::<q8_0::Q8_0>(),
        Format::Q4_0 => task.quants::<q4_0::Q4_0>(),
        Format::Q4_1 => task.quants::<q4_1::Q4_1>(),
        Format::Q5_0 => task.quants::<q5::Q5_0>(),
        Format::Q5_1 => task.quants::<q5::Q5_1>(),
        Format::Q4K => task.quants::<q4_k::Q4K>(),
        Format::Q5K => task.quants::<q4_k::Q5K>(),
        Format::Q6K => task.quants::<q6_k::Q6K>(),
        Format::Q2K => task.quants::<q2_k::Q2K>(),
        Format::Q3K => task.quants::<q3_k::Q3K>(),
        Format::Iq4Nl => task.quants::<iq4::Iq4Nl>(),
        Format::Iq4Xs => task.quants::<iq4::Iq4Xs>(),
        Format::Mxfp4 => task.quants::<mxfp4::Mxfp4>(),
    }
}
