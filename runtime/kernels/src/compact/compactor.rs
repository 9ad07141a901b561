//! Making the compact form, row by row.

use std::cmp::Reverse;
use std::io;

use super::layout::{CODE_BYTES, CompactLayout, EXCEPTION_BYTES, GROUP, GROUP_BYTES, HEAD_BYTES, STRIPE, TABLE};
use crate::matrix::ShapeError;
use lime_plan::Format;

/// Where parts of a compact matrix go: the offset in the matrix, and the bytes.
type Sink<'a> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 'a;

/// The code of an element that is an exception; as a code it is 0.
const EXCEPTION: u8 = 8;

/// Eight of those.
const MARKS: u64 = u64::from_ne_bytes([EXCEPTION; 8]);

/// Zeros to pad with.
const ZEROS: [u8; 4096] = [0; 4096];

/// A matrix that does not become compact.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The exponents vary more than the format has room for. The matrix can be kept as it is.
    #[error(
        "weights too varied for the compact form: {needed} exceptions in {rows} of {out_features} rows, {fits} fit into the matrix"
    )]
    TooVaried {
        /// Exceptions of the rows seen.
        needed: u64,
        /// Exceptions that all rows together may have.
        fits: u64,
        /// Rows seen.
        rows: usize,
        /// Rows of the matrix.
        out_features: usize,
    },
    /// The bytes are no whole number of rows, or more rows than the matrix has.
    #[error("{bytes} bytes for {left} rows of {row_bytes} bytes")]
    Rows {
        /// What was given.
        bytes: usize,
        /// Rows still to come.
        left: usize,
        /// What a row takes.
        row_bytes: usize,
    },
    /// Rows are missing.
    #[error("{rows} of {out_features} rows given")]
    Unfinished {
        /// Rows seen.
        rows: usize,
        /// Rows of the matrix.
        out_features: usize,
    },
    /// What the sink said.
    #[error("cannot write a compact matrix: {0}")]
    Sink(#[from] io::Error),
}

/// Turns a raw bf16 matrix into its compact form, in memory that depends on the rows given at a time only.
///
/// Once [`Compactor::finish`] has returned without an error, every byte of the matrix, padding included, has been given
/// to the sink exactly once.
#[derive(Debug)]
pub struct Compactor {
    layout: CompactLayout,
    out_features: usize,
    in_features: usize,
    /// Rows seen.
    rows: usize,
    /// Exceptions of those.
    exceptions: usize,
}

impl Compactor {
    /// A compactor for a matrix of `out_features` rows x `in_features` columns.
    ///
    /// # Errors
    /// When the matrix is empty, or too big to have a compact form.
    pub fn new(out_features: usize, in_features: usize) -> Result<Self, ShapeError> {
        if out_features == 0 || in_features == 0 {
            return Err(ShapeError::Empty { out_features, in_features });
        }
        let layout = CompactLayout::of(out_features, in_features).ok_or(ShapeError::TooBig {
            format: Format::CompactBf16,
            out_features,
            in_features,
        })?;
        Ok(Self { layout, out_features, in_features, rows: 0, exceptions: 0 })
    }

    /// Takes the next rows, whole ones, as little-endian bf16.
    ///
    /// # Errors
    /// When `rows` are no whole rows or too many, when the exponents vary too much, and when the sink fails. Nothing more
    /// can be done with the compactor then.
    pub fn push_rows(&mut self, rows: &[u8], sink: &mut Sink<'_>) -> Result<(), CompactError> {
        let (row_bytes, left) = (self.in_features * 2, self.out_features - self.rows);
        if !rows.len().is_multiple_of(row_bytes) || rows.len() / row_bytes > left {
            return Err(CompactError::Rows { bytes: rows.len(), left, row_bytes });
        }
        let (count, record_bytes) = (rows.len() / row_bytes, self.layout.record_bytes());
        let mut records = vec![0; count * record_bytes];
        let (mut heads, mut exceptions) = (Vec::with_capacity(count * HEAD_BYTES), Vec::new());
        let (first_row, first_exception) = (self.rows, self.exceptions);
        for (row, record) in rows.chunks_exact(row_bytes).zip(records.chunks_exact_mut(record_bytes)) {
            let (start, before) = (self.exceptions, exceptions.len());
            let table = pack_row(row.as_chunks::<2>().0, record, &mut exceptions);
            let found = (exceptions.len() - before) / EXCEPTION_BYTES;
            self.exceptions += found;
            self.rows += 1;
            if self.exceptions > self.layout.room {
                return Err(self.too_varied());
            }
            heads.extend_from_slice(&table);
            // The room for exceptions is counted in u32.
            heads.extend_from_slice(&(start as u32).to_le_bytes());
            heads.extend_from_slice(&(found as u32).to_le_bytes());
        }
        let parts = [
            (first_row * record_bytes, records),
            (self.layout.heads + first_row * HEAD_BYTES, heads),
            (self.layout.exceptions + first_exception * EXCEPTION_BYTES, exceptions),
        ];
        for (at, part) in parts.iter().filter(|(_, part)| !part.is_empty()) {
            sink(*at as u64, part)?;
        }
        Ok(())
    }

    /// Writes what no row has: the padding, and zeros where no exceptions are.
    ///
    /// # Errors
    /// When rows are missing, and when the sink fails.
    pub fn finish(self, sink: &mut Sink<'_>) -> Result<(), CompactError> {
        let Self { layout, rows, out_features, exceptions, .. } = self;
        if rows < out_features {
            return Err(CompactError::Unfinished { rows, out_features });
        }
        let ends = [
            (rows * layout.record_bytes(), layout.heads),
            (layout.heads + rows * HEAD_BYTES, layout.exceptions),
            (layout.exceptions + exceptions * EXCEPTION_BYTES, layout.bytes),
        ];
        for (start, end) in ends {
            for at in (start..end).step_by(ZEROS.len()) {
                sink(at as u64, &ZEROS[..ZEROS.len().min(end - at)])?;
            }
        }
        Ok(())
    }

    fn too_varied(&self) -> CompactError {
        CompactError::TooVaried {
            needed: self.exceptions as u64,
            fits: self.layout.room as u64,
            rows: self.rows,
            out_features: self.out_features,
        }
    }
}

/// Makes the record of `row` in zeros, lists its exceptions, and returns its table.
fn pack_row(row: &[[u8; 2]], record: &mut [u8], exceptions: &mut Vec<u8>) -> [u8; TABLE] {
    let (table, code_of) = table(row);
    let mut before = 0;
    let stripes = record.chunks_mut(STRIPE * GROUP_BYTES).zip(row.chunks(STRIPE * GROUP));
    for (stripe, (record, elements)) in stripes.enumerate() {
        let (rests, codes) = record.split_at_mut(record.len() / GROUP_BYTES * GROUP);
        let (rests, codes) = (rests.as_chunks_mut::<GROUP>().0, codes.as_chunks_mut::<CODE_BYTES>().0);
        for (group, elements) in elements.chunks(GROUP).enumerate() {
            let start = (stripe * STRIPE + group) * GROUP;
            let code = pack(elements, &code_of, &mut rests[group], &mut codes[group]);
            for eight in 0..GROUP / 8 {
                let code = code[place(eight)..].first_chunk().map_or(0, |code| u64::from_le_bytes(*code));
                let mut marks = code & MARKS;
                while marks != 0 {
                    let column = start + eight * 8 + marks.trailing_zeros() as usize / 8;
                    list(row, before, column, exceptions);
                    before = column;
                    marks &= marks - 1;
                }
            }
        }
    }
    table
}

/// Lists the element at `column`, and those on the way from `before` that it takes.
fn list(row: &[[u8; 2]], mut before: usize, column: usize, exceptions: &mut Vec<u8>) {
    loop {
        let distance = (column - before).min(255);
        before += distance;
        exceptions.extend_from_slice(&[distance as u8, exponent(row[before])]);
        if before == column {
            return;
        }
    }
}

fn exponent(element: [u8; 2]) -> u8 {
    (u16::from_le_bytes(element) >> 7) as u8
}

/// The most frequent exponents of a row, and the code of every exponent.
fn table(row: &[[u8; 2]]) -> ([u8; TABLE], [u8; 256]) {
    // Four counts side by side: neighbours often have the same exponent, and would wait for each other.
    let mut counts = [[0u64; 256]; 4];
    let (fours, rest) = row.as_chunks::<4>();
    for four in fours {
        for i in 0..4 {
            counts[i][usize::from(exponent(four[i]))] += 1;
        }
    }
    for element in rest {
        counts[0][usize::from(exponent(*element))] += 1;
    }
    // Most exponents do not occur. The exponent decides among equals, so that the form of a matrix is unique.
    let mut found = Vec::with_capacity(256);
    for exponent in 0..=255u8 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i: usize| counts[i][usize::from(exponent)]);
        if a | b | c | d != 0 {
            found.push((Reverse(a + b + c + d), exponent));
        }
    }
    found.sort_unstable();
    found.truncate(TABLE);
    let mut table = [0; TABLE];
    for (code, (_, exponent)) in table.iter_mut().zip(&found) {
        *code = *exponent;
    }
    table[..found.len()].sort_unstable();
    let mut code_of = [EXCEPTION; 256];
    for (code, exponent) in table.iter().enumerate().take(found.len()) {
        code_of[usize::from(*exponent)] = code as u8;
    }
    (table, code_of)
}

/// Where the eight elements number `eight` of a group have their places.
const fn place(eight: usize) -> usize {
    eight % 4 * 16 + eight / 4 * 8
}

/// Packs up to 64 elements; what is missing stays zero. Returns the codes by place, exceptions marked.
fn pack(
    elements: &[[u8; 2]],
    code_of: &[u8; 256],
    rest: &mut [u8; GROUP],
    codes: &mut [u8; CODE_BYTES],
) -> [u8; GROUP] {
    let mut padded = [[0; 2]; GROUP];
    let whole = elements.first_chunk::<GROUP>().unwrap_or_else(|| {
        padded[..elements.len()].copy_from_slice(elements);
        &padded
    });
    let mut code = [0; GROUP];
    for eight in 0..GROUP / 8 {
        for i in 0..8 {
            let element = whole[eight * 8 + i];
            rest[place(eight) + i] = element[1] & 0x80 | element[0] & 0x7f;
            code[place(eight) + i] = code_of[usize::from(exponent(element))];
        }
    }
    // The padding has no exponent: it must not look like exceptions.
    for i in elements.len()..GROUP {
        code[place(i / 8) + i % 8] = 0;
    }
    let (low, high) = codes.split_at_mut(16);
    for (i, low) in low.iter_mut().enumerate() {
        *low = code[i] & 3 | (code[16 + i] & 3) << 2 | (code[32 + i] & 3) << 4 | (code[48 + i] & 3) << 6;
    }
    for (i, high) in high.iter_mut().enumerate() {
        let mut bits = 0;
        for eight in 0..8 {
            bits |= (code[eight * 8 + i] >> 2 & 1) << eight;
        }
        *high = bits;
    }
    code
}
