//! What a format means here: elements, and bytes of a matrix.

use lime_plan::{Dtype, Format};

use crate::compact::compact_bytes;
use crate::element::ElementType;

/// Bytes of a matrix of `rows` rows of `columns` elements; `None` where the format cannot hold that shape, or nobody could count
/// the bytes.
pub fn format_bytes(format: Format, rows: usize, columns: usize) -> Option<u64> {
    let Some(unit) = format.unit() else {
        return Some(compact_bytes(rows, columns)).filter(|bytes| *bytes != u64::MAX);
    };
    let row = ((columns / unit.columns) as u64).checked_mul(unit.bytes as u64)?;
    columns.is_multiple_of(unit.columns).then_some(row)?.checked_mul(rows as u64)
}

impl From<ElementType> for Format {
    fn from(ty: ElementType) -> Self {
        match ty {
            ElementType::F32 => Self::F32,
            ElementType::F16 => Self::F16,
            ElementType::Bf16 => Self::Bf16,
        }
    }
}

impl From<Dtype> for ElementType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}
