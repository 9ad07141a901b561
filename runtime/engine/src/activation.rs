//! The residual stream between two devices, or between two segments of one.

use lime_kernels::{decode, encode};
use lime_plan::Dtype;

use crate::engine_error::EngineError;

/// Rows of the residual stream, in f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activation {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) data: Vec<f32>,
}

impl Activation {
    /// `rows` rows of `columns` elements each.
    ///
    /// # Errors
    /// When `data` is not exactly as long.
    pub fn new(rows: usize, columns: usize, data: Vec<f32>) -> Result<Self, EngineError> {
        if rows.checked_mul(columns) != Some(data.len()) {
            let found = data.len();
            return Err(EngineError::Wire { rows, columns, unit: "elements", found });
        }
        Ok(Self { rows, columns, data })
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row: the width of the residual stream.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// All rows, one after the other.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The bytes that go over the wire: little-endian, in the plan's residual dtype, to which the stream was rounded already.
    pub fn to_wire(&self, dtype: Dtype) -> Vec<u8> {
        let mut bytes = vec![0; self.data.len() * dtype.size() as usize];
        encode(dtype, &self.data, &mut bytes);
        bytes
    }

    /// Reads what [`Activation::to_wire`] wrote.
    ///
    /// # Errors
    /// When the bytes are not exactly `rows` rows of `columns` elements.
    pub fn from_wire(dtype: Dtype, rows: usize, columns: usize, bytes: &[u8]) -> Result<Self, EngineError> {
        let size = dtype.size() as usize;
        let elements = rows.checked_mul(columns).filter(|count| count.checked_mul(size) == Some(bytes.len()));
        let Some(elements) = elements else {
            let found = bytes.len();
            return Err(EngineError::Wire { rows, columns, unit: "bytes", found });
        };
        let mut data = vec![0.0; elements];
        decode(dtype, bytes, &mut data);
        Ok(Self { rows, columns, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_stream_survives_the_wire() {
        let data = vec![1.0, -0.5, 3.140625, 0.0, 1e-3, 65280.0];
        for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
            let mut data = data.clone();
            lime_kernels::round_to(dtype, &mut data);
            let sent = Activation::new(2, 3, data).unwrap();
            let bytes = sent.to_wire(dtype);
            assert_eq!(bytes.len() as u64, 6 * dtype.size());
            assert_eq!(Activation::from_wire(dtype, 2, 3, &bytes).unwrap(), sent);
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for (rows, columns, length) in
            [(2, 3, 23), (2, 3, 25), (usize::MAX, 2, 8), (usize::MAX, usize::MAX, 4), (0, 3, 4)]
        {
            let fault = Activation::from_wire(Dtype::F32, rows, columns, &vec![0; length]);
            assert!(fault.is_err(), "{rows} x {columns} from {length} bytes");
        }
        assert!(Activation::new(2, 2, vec![0.0; 3]).is_err());
    }
}
