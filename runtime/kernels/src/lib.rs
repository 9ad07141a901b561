//! Order-fixed matrix kernels for bf16, f16, f32 and quantized weights.
//!
//! Every result is defined by one *canonical order* of f32 operations (see [`order`]) which depends on
//! nothing but the stored format: not on the instruction set, the number of threads, the number of rows, or
//! the tiles that happen to be used. AVX-512, AVX2+FMA, NEON and scalar code give the same bits.
//!
//! The algorithms are written once, generically over the private `Simd` trait, and compiled once per
//! instruction set; [`Kernels`] chooses at run time.
//!
//! ```
//! use lime_kernels::{Isa, Kernels, Matrix, PackedRows, encode};
//! use lime_plan::Dtype;
//!
//! // Two rows of weights in bf16, and one row of activations.
//! let mut stored = [0; 2 * 3 * 2];
//! encode(Dtype::Bf16, &[1.0, 2.0, 3.0, -1.0, 0.5, 0.0], &mut stored);
//! let weights = Matrix::new(&stored, Dtype::Bf16, 2, 3)?;
//! let mut rows = PackedRows::new();
//! rows.pack(Dtype::Bf16, &[1.0, 10.0, 100.0], 1, 3);
//!
//! // The best that this machine has, and the slowest: the same bits.
//! let (mut best, mut scalar) = ([0.0; 2], [0.0; 2]);
//! Kernels::new(Isa::detect(), 2).linear(&weights, &rows, None, &mut best);
//! Kernels::new(Isa::Scalar, 1).linear(&weights, &rows, None, &mut scalar);
//! assert_eq!(best, [321.0, 4.0]);
//! assert_eq!(best.map(f32::to_bits), scalar.map(f32::to_bits));
//! # Ok::<(), lime_kernels::ShapeError>(())
//! ```
#![allow(unsafe_code)]

mod attention;
mod attention_rows;
mod buffer;
mod compact;
mod convert;
mod decode_row;
mod elementwise;
mod format;
mod gemm;
mod gemv;
mod isa;
mod kernels;
mod kv;
mod kv_entries;
mod lanes;
mod linear;
mod math;
mod matrix;
mod norm;
pub mod order;
mod outputs;
mod packed;
mod pages;
mod pool;
mod quants;
mod reach;
mod ring_buf;
pub mod roofline;
mod rope;
mod rows;
mod scratch;
mod simd;
mod softmax;

pub use attention_rows::{AttentionArgs, AttentionBefore, AttentionBounds, AttentionRow, attention_state_floats};
pub use buffer::{AlignedBuf, BufferError, HUGE_PAGE};
pub use compact::{CompactError, Compactor, compact_bytes};
pub use convert::{decode, encode, round_to};
pub use elementwise::Gate;
pub use format::format_bytes;
pub use isa::Isa;
pub use kernels::Kernels;
pub use kv::{KV_PAGE_TOKENS, KvLayout, kv_store};
pub use math::sigmoid;
pub use matrix::{Matrix, ShapeError};
pub use outputs::LinearJob;
pub use packed::{Operand, PackedRows};
pub use pool::Pool;
pub use reach::{Reach, reach};
pub use ring_buf::{RingBuf, RingRead, RingWrite};
pub use rope::RopeTable;
pub use softmax::softmax;
