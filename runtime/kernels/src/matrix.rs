//! A borrowed weight matrix, checked once against its shape.

use crate::element::ElementType;

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
    #[error("{ty} {out_features} x {in_features} takes {expected} bytes, {found} given")]
    Bytes {
        /// Element type.
        ty: ElementType,
        /// Rows of the matrix.
        out_features: usize,
        /// Columns of the matrix.
        in_features: usize,
        /// What the shape takes, as far as it can be counted.
        expected: u128,
        /// What was given.
        found: usize,
    },
}

/// A row-major matrix of `out_features` rows, each with `in_features` elements as the file stores them
/// (little-endian, any alignment).
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    bytes: &'a [u8],
    ty: ElementType,
    out_features: usize,
    in_features: usize,
}

impl<'a> Matrix<'a> {
    /// Views `bytes` as a matrix, if their number is exactly right.
    pub fn new(bytes: &'a [u8], ty: ElementType, out_features: usize, in_features: usize) -> Result<Self, ShapeError> {
        if out_features == 0 || in_features == 0 {
            return Err(ShapeError::Empty { out_features, in_features });
        }
        let expected = (out_features as u128).saturating_mul(in_features as u128).saturating_mul(ty.size() as u128);
        if expected != bytes.len() as u128 {
            return Err(ShapeError::Bytes { ty, out_features, in_features, expected, found: bytes.len() });
        }
        Ok(Self { bytes, ty, out_features, in_features })
    }

    /// The stored bytes of row `index`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> &'a [u8] {
        assert!(index < self.out_features, "row {index} of a matrix of {} rows", self.out_features);
        let stride = self.row_bytes();
        &self.bytes[index * stride..][..stride]
    }

    /// All stored bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Element type.
    pub const fn ty(&self) -> ElementType {
        self.ty
    }

    /// Number of rows, which is the length of an output.
    pub const fn out_features(&self) -> usize {
        self.out_features
    }

    /// Number of columns, which is the length of an input.
    pub const fn in_features(&self) -> usize {
        self.in_features
    }

    /// Bytes of one row.
    pub const fn row_bytes(&self) -> usize {
        self.in_features * self.ty.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lying_shapes_are_refused() {
        let bytes = [0u8; 24];
        assert!(Matrix::new(&bytes, ElementType::Bf16, 3, 4).is_ok());
        assert!(matches!(Matrix::new(&bytes, ElementType::F32, 3, 4), Err(ShapeError::Bytes { expected: 48, .. })));
        assert!(matches!(Matrix::new(&bytes, ElementType::F32, 0, 4), Err(ShapeError::Empty { .. })));
        assert!(Matrix::new(&bytes, ElementType::F32, usize::MAX, usize::MAX).is_err());
        assert!(Matrix::new(&bytes, ElementType::F32, 1 << 62, 1 << 2).is_err());
    }

    #[test]
    fn rows_are_slices() {
        let bytes: Vec<u8> = (0..24).collect();
        let matrix = Matrix::new(&bytes, ElementType::Bf16, 3, 4).unwrap();
        assert_eq!(matrix.row(1), &bytes[8..16]);
    }
}
