//! A borrowed weight matrix, checked once against its shape.

use lime_plan::Format;

use crate::format::format_bytes;

/// A shape that its bytes cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A dimension is zero.
    #[error("a matrix of {out_features} x {in_features} elements is empty")]
    Empty {
        /// Rows of the matrix.
        out_features: usize,
        /// Columns of the matrix.
        in_features: usize,
    },
    /// The byte count differs from what the shape takes.
    #[error("{format} {out_features} x {in_features} takes {expected} bytes, {found} given")]
    Bytes {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        out_features: usize,
        /// Columns of the matrix.
        in_features: usize,
        /// What the shape takes.
        expected: u64,
        /// What was given.
        found: usize,
    },
    /// The format stores columns in units, of which a row must have whole ones.
    #[error("{format} stores {unit} columns together, and {in_features} are no multiple of that")]
    Columns {
        /// The format.
        format: Format,
        /// Columns of the matrix.
        in_features: usize,
        /// Columns of a unit.
        unit: usize,
    },
    /// Nobody can count so many elements.
    #[error("a matrix of {out_features} x {in_features} elements is too big for {format}")]
    TooBig {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        out_features: usize,
        /// Columns of the matrix.
        in_features: usize,
    },
}

/// A row-major matrix of `out_features` rows, each with `in_features` elements, as some [`Format`] stores it (little-endian, any
/// alignment).
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    bytes: &'a [u8],
    format: Format,
    out_features: usize,
    in_features: usize,
}

impl<'a> Matrix<'a> {
    /// Views `bytes` as a matrix, if their number is exactly right. Whether they make sense is not checked: any bytes are some
    /// matrix.
    pub fn new(
        bytes: &'a [u8],
        format: impl Into<Format>,
        out_features: usize,
        in_features: usize,
    ) -> Result<Self, ShapeError> {
        let format = format.into();
        if out_features == 0 || in_features == 0 {
            return Err(ShapeError::Empty { out_features, in_features });
        }
        let unit = format.unit().map_or(1, |unit| unit.columns);
        if !in_features.is_multiple_of(unit) {
            return Err(ShapeError::Columns { format, in_features, unit });
        }
        let expected = format_bytes(format, out_features, in_features);
        let expected = expected.ok_or(ShapeError::TooBig { format, out_features, in_features })?;
        if expected != bytes.len() as u64 {
            return Err(ShapeError::Bytes { format, out_features, in_features, expected, found: bytes.len() });
        }
        Ok(Self { bytes, format, out_features, in_features })
    }

    /// The stored bytes of row `index`, where the format stores rows one after another. [`Matrix::decode_row`] works for every
    /// format.
    ///
    /// # Panics
    /// When there is no such row, or the format stores no rows as they are.
    pub fn row(&self, index: usize) -> &'a [u8] {
        self.check_row(index);
        let unit = self.format.unit().unwrap_or_else(|| panic!("{} does not store rows one by one", self.format));
        let stride = self.in_features / unit.columns * unit.bytes;
        &self.bytes[index * stride..][..stride]
    }

    pub(crate) fn check_row(&self, index: usize) {
        assert!(index < self.out_features, "row {index} of a matrix of {} rows", self.out_features);
    }

    /// All stored bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How it is stored.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Number of rows, which is the length of an output.
    pub const fn out_features(&self) -> usize {
        self.out_features
    }

    /// Number of columns, which is the length of an input.
    pub const fn in_features(&self) -> usize {
        self.in_features
    }

    /// Stored bytes of a row, about.
    pub(crate) const fn row_bytes(&self) -> usize {
        self.bytes.len().div_ceil(self.out_features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lime_plan::Dtype;

    #[test]
    fn lying_shapes_are_refused() {
        let bytes = [0u8; 24];
        assert!(Matrix::new(&bytes, Dtype::Bf16, 3, 4).is_ok());
        assert!(matches!(Matrix::new(&bytes, Dtype::F32, 3, 4), Err(ShapeError::Bytes { expected: 48, .. })));
        assert!(matches!(Matrix::new(&bytes, Format::Q8_0, 3, 4), Err(ShapeError::Columns { unit: 32, .. })));
        assert!(matches!(Matrix::new(&bytes, Dtype::F32, 0, 4), Err(ShapeError::Empty { .. })));
        assert!(Matrix::new(&bytes, Dtype::F32, usize::MAX, usize::MAX).is_err());
        assert!(Matrix::new(&bytes, Dtype::F32, 1 << 62, 1 << 2).is_err());
    }

    #[test]
    fn rows_are_slices() {
        let bytes: Vec<u8> = (0..24).collect();
        let matrix = Matrix::new(&bytes, Dtype::Bf16, 3, 4).unwrap();
        assert_eq!(matrix.row(1), &bytes[8..16]);
    }
}
