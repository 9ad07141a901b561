//! Bytes of a matrix in a format.

use lime_plan::Format;

use crate::compact::compact_bytes;

/// Bytes of a matrix of `rows` rows of `columns` elements; `None` where the format cannot hold that shape, or nobody could count
/// the bytes.
pub fn format_bytes(format: Format, rows: usize, columns: usize) -> Option<u64> {
    let Some(unit) = format.unit() else {
        return Some(compact_bytes(rows, columns)).filter(|bytes| *bytes != u64::MAX);
    };
    let row = ((columns / unit.columns) as u64).checked_mul(unit.bytes as u64)?;
    columns.is_multiple_of(unit.columns).then_some(row)?.checked_mul(rows as u64)
}
