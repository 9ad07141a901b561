//! A borrowed weight matrix, checked once against its shape.

use crate::compact::{CompactRows, Expand, GROUP, Layout, STRIPE};
use crate::convert::decode;
use crate::element::ElementType;
use crate::isa::Isa;

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
    /// The byte count differs from what the compact form of the shape takes.
    #[error("compact {out_features} x {in_features} takes {expected} bytes, {found} given")]
    CompactBytes {
        /// Rows of the matrix.
        out_features: usize,
        /// Columns of the matrix.
        in_features: usize,
        /// What the shape takes.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// The compact form cannot count so many elements.
    #[error("a matrix of {out_features} x {in_features} elements is too big for the compact form")]
    TooBig {
        /// Rows of the matrix.
        out_features: usize,
        /// Columns of the matrix.
        in_features: usize,
    },
}

/// A row-major matrix of `out_features` rows, each with `in_features` elements: raw, as the file stores them
/// (little-endian, any alignment), or in the compact form of bf16 (see [`Compactor`](crate::Compactor)).
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    form: Form<'a>,
    ty: ElementType,
    out_features: usize,
    in_features: usize,
}

/// How the elements lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// One after another.
    Raw(&'a [u8]),
    /// bf16, to be expanded row by row.
    Compact(CompactRows<'a>),
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
        Ok(Self { form: Form::Raw(bytes), ty, out_features, in_features })
    }

    /// Views `bytes` as a bf16 matrix in compact form, if their number is exactly right. Whether they make sense is not
    /// checked: any bytes are some matrix.
    pub fn compact(bytes: &'a [u8], out_features: usize, in_features: usize) -> Result<Self, ShapeError> {
        if out_features == 0 || in_features == 0 {
            return Err(ShapeError::Empty { out_features, in_features });
        }
        let layout = Layout::of(out_features, in_features).ok_or(ShapeError::TooBig { out_features, in_features })?;
        if layout.bytes != bytes.len() {
            let (expected, found) = (layout.bytes, bytes.len());
            return Err(ShapeError::CompactBytes { out_features, in_features, expected, found });
        }
        Ok(Self {
            form: Form::Compact(CompactRows::new(bytes, layout)),
            ty: ElementType::Bf16,
            out_features,
            in_features,
        })
    }

    /// Whether the matrix is in compact form.
    pub const fn is_compact(&self) -> bool {
        matches!(self.form, Form::Compact(_))
    }

    /// The stored bytes of row `index` of a raw matrix. [`Matrix::decode_row`] and [`Matrix::expand_row`] work for
    /// every form.
    ///
    /// # Panics
    /// When there is no such row, or the matrix is compact.
    pub fn row(&self, index: usize) -> &'a [u8] {
        self.check_row(index);
        let Form::Raw(bytes) = self.form else { panic!("a compact matrix does not store rows as they are") };
        let stride = self.row_bytes();
        &bytes[index * stride..][..stride]
    }

    /// Writes row `index` to `into` as f32.
    ///
    /// # Panics
    /// When there is no such row, or `into` is not `in_features` long.
    pub fn decode_row(&self, index: usize, into: &mut [f32]) {
        assert_eq!(into.len(), self.in_features, "room for a row");
        match self.form {
            Form::Raw(_) => decode(self.ty, self.row(index), into),
            Form::Compact(_) => self.expand_parts(index, |start, part| {
                decode(self.ty, part, &mut into[start..][..part.len() / self.ty.size()]);
            }),
        }
    }

    /// Writes row `index` to `into` as a raw matrix would store it.
    ///
    /// # Panics
    /// When there is no such row, or `into` is not as long as `in_features` elements.
    pub fn expand_row(&self, index: usize, into: &mut [u8]) {
        assert_eq!(into.len(), self.row_bytes(), "room for a row");
        match self.form {
            Form::Raw(_) => into.copy_from_slice(self.row(index)),
            Form::Compact(_) => self.expand_parts(index, |start, part| {
                into[start * self.ty.size()..][..part.len()].copy_from_slice(part);
            }),
        }
    }

    /// Hands `take` a row of a compact matrix in parts: the column where one begins, and its raw bytes.
    fn expand_parts(&self, index: usize, mut take: impl FnMut(usize, &[u8])) {
        self.check_row(index);
        let Form::Compact(rows) = self.form else { return };
        const PART: usize = GROUP * STRIPE;
        let mut part = [0; PART * 2];
        let mut row = rows.row(index);
        let expand = Expand::of(Isa::detect());
        for start in (0..self.in_features).step_by(PART) {
            let columns = PART.min(self.in_features - start);
            row.expand(expand, columns.div_ceil(GROUP), &mut part, 0);
            take(start, &part[..columns * 2]);
        }
    }

    fn check_row(&self, index: usize) {
        assert!(index < self.out_features, "row {index} of a matrix of {} rows", self.out_features);
    }

    /// How the elements lie in memory.
    pub(crate) const fn form(&self) -> Form<'a> {
        self.form
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

    /// Bytes of one row as a raw matrix stores it.
    pub(crate) const fn row_bytes(&self) -> usize {
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
