//! The compact form of bf16 matrices: the same bits in about 0.715 of the bytes, for storage, memory and kernels.
//!
//! The exponents of trained weights vary little: a row's eight most frequent ones cover all but a percent of it. So an
//! element becomes one byte of sign and mantissa and a code of three bits into its row's table of eight exponents; the
//! few elements whose exponent is not in the table are listed as *exceptions*. The size depends on the shape alone, and
//! any row can be expanded alone.
//!
//! A matrix of `out_features` rows x `in_features` columns is three sections, each zero-padded to 64 bytes:
//!
//! 1. **Records**, one a row. Columns are padded to groups of 64; groups stand in stripes of eight (the last may have
//!    fewer), first the sign-and-mantissa bytes of all the stripe's groups, 64 each, then their codes, 24 bytes each.
//!    Element `32 b + 8 q + u` of a group (b < 2, q < 4, u < 8) has *place* `16 q + 8 b + u`: so that joining the bytes
//!    of a vector's 16-byte lanes with their exponents gives elements in the order of the file. Byte `p` of a group is
//!    sign and mantissa at place `p`. The codes are 16 bytes, whose byte `p % 16` has the low two bits of the code at
//!    place `p` from bit `p / 16 * 2` on, and 8 bytes, whose byte `p % 8` has its third bit as bit `p / 8`.
//! 2. **Heads**, 16 bytes a row: the table of exponents, ascending, then zeros where a row has fewer; and as
//!    little-endian u32 the index of the row's first exception and their number.
//! 3. **Exceptions**, two bytes each: the distance of the element from the row's exception before (from column 0 for
//!    the first), and its exponent. Where the distance does not fit into a byte, elements on the way are listed with the
//!    exponent that they have anyway. There is room for one in 40 elements (2.5 %) and 32 more. Gaussian weights take
//!    1.2 to 1.6 %, those of trained transformers (MiniLM, our small Llama) 0.7 to 1.8 %.
//!
//! Readers take any bytes: what lies outside the matrix is never read, and wrong bytes give wrong numbers.

mod compactor;
mod expand;
mod layout;
mod reader;

pub use compactor::{CompactError, Compactor};
pub(crate) use expand::Expand;
pub use layout::compact_bytes;
pub(crate) use layout::{CompactLayout, GROUP, STRIPE};
pub(crate) use reader::{CompactRows, RowReader};

#[cfg(test)]
mod tests;
