//! Every linear path against the canonical order spelled out, bit for bit.

use lime_kernels::{Isa, Kernels, LinearJob, Matrix, PackedRows, decode, encode};
use lime_plan::Dtype;
use proptest::prelude::*;

/// The canonical dot product, word for word.
fn canonical(ty: Dtype, w: &[f32], x: &[f32]) -> f32 {
    let (mut first, mut second) = ([0.0f32; 16], [0.0f32; 16]);
    let at = |v: &[f32], k: usize| v.get(k).copied().unwrap_or(0.0);
    for block in (0..w.len().next_multiple_of(32)).step_by(32) {
        for l in 0..16 {
            let (a, b) = match ty {
                Dtype::Bf16 => (block + 2 * l, block + 2 * l + 1),
                _ => (block + l, block + 16 + l),
            };
            first[l] = at(w, a).mul_add(at(x, a), first[l]);
            second[l] = at(w, b).mul_add(at(x, b), second[l]);
        }
    }
    let mut a: Vec<f32> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
    for step in [8, 4, 2, 1] {
        for l in 0..step {
            a[l] += a[l + step];
        }
    }
    a[0]
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// A matrix that begins at an odd address.
struct Stored {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Stored {
    fn new(ty: Dtype, values: &[f32]) -> Self {
        let mut bytes = vec![0; values.len() * ty.size() as usize + 1];
        encode(ty, values, &mut bytes[1..]);
        let mut values = values.to_vec();
        decode(ty, &bytes[1..], &mut values);
        Self { bytes, values }
    }
}

fn check(ty: Dtype, out: usize, cols: usize, rows: usize, threads: usize, seed: u64) -> Result<(), TestCaseError> {
    let w = Stored::new(ty, &noise(seed, out * cols));
    let x = noise(seed + 1, rows * cols);
    let bias = noise(seed + 2, out);
    let matrix = Matrix::new(&w.bytes[1..], ty, out, cols).expect("the shape");
    for isa in Isa::available() {
        let kernels = Kernels::new(isa, threads);
        let mut packed = PackedRows::new();
        packed.pack(ty, &x, rows, cols);
        let (mut y, mut z) = (vec![f32::NAN; rows * out], vec![f32::NAN; rows * out]);
        kernels.linear_many(
            &mut [
                LinearJob { weights: matrix, bias: None, y: &mut y },
                LinearJob { weights: matrix, bias: Some(&bias), y: &mut z },
            ],
            &packed,
        );
        for row in 0..rows {
            for o in 0..out {
                let expected = canonical(ty, &w.values[o * cols..][..cols], &x[row * cols..][..cols]);
                let (y, z) = (y[row * out + o], z[row * out + o]);
                prop_assert!(same(y, expected), "{isa} {ty} row {row} output {o}: {y:e} is not {expected:e}");
                prop_assert!(same(z, expected + bias[o]), "{isa} {ty} row {row} output {o} with bias");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn linear_is_the_canonical_order(
        ty in proptest::sample::select(&Dtype::ALL[..]),
        out in 1usize..70,
        cols in 1usize..300,
        rows in 1usize..41,
        threads in 1usize..5,
        seed in any::<u32>(),
    ) {
        check(ty, out, cols, rows, threads, u64::from(seed))?;
    }

    #[test]
    fn odd_weights_do_not_panic_and_agree(
        ty in proptest::sample::select(&Dtype::ALL[..]),
        raw in proptest::collection::vec(any::<u8>(), 4 * 5 * 37),
        rows in 1usize..9,
    ) {
        // Any bytes: denormals, infinities and NaNs among them.
        let bytes = &raw[..5 * 37 * ty.size() as usize];
        let matrix = Matrix::new(bytes, ty, 5, 37).unwrap();
        let mut values = vec![0.0; 5 * 37];
        decode(ty, bytes, &mut values);
        let x = noise(3, rows * 37);
        let mut packed = PackedRows::new();
        packed.pack(ty, &x, rows, 37);
        for isa in Isa::available() {
            let mut y = vec![0.0; rows * 5];
            Kernels::new(isa, 1).linear(&matrix, &packed, None, &mut y);
            for (i, y) in y.into_iter().enumerate() {
                let expected = canonical(ty, &values[i % 5 * 37..][..37], &x[i / 5 * 37..][..37]);
                prop_assert!(same(y, expected), "{isa} {ty}: {y:e} is not {expected:e}");
            }
        }
    }
}

#[test]
fn long_rows_cross_every_sweep() {
    for ty in Dtype::ALL {
        for rows in [1, 2, 3, 4, 9, 130, 260] {
            check(ty, 19, 2100, rows, 2, 7).unwrap();
        }
    }
}

#[test]
fn no_row_influences_another() {
    let (out, cols) = (50, 333);
    for ty in Dtype::ALL {
        let w = Stored::new(ty, &noise(1, out * cols));
        let matrix = Matrix::new(&w.bytes[1..], ty, out, cols).unwrap();
        let x = noise(2, 40 * cols);
        let kernels = Kernels::new(Isa::detect(), 2);
        let mut packed = PackedRows::new();
        let mut all = vec![0.0; 40 * out];
        packed.pack(ty, &x, 40, cols);
        kernels.linear(&matrix, &packed, None, &mut all);
        for row in 0..40 {
            let mut alone = vec![0.0; out];
            packed.pack(ty, &x[row * cols..][..cols], 1, cols);
            kernels.linear(&matrix, &packed, None, &mut alone);
            assert_eq!(alone, all[row * out..][..out]);
        }
    }
}

#[test]
fn rows_laid_out_for_another_instruction_set_are_taken() {
    let x = noise(5, 11 * 100);
    let w = Stored::new(Dtype::Bf16, &noise(6, 20 * 100));
    let matrix = Matrix::new(&w.bytes[1..], Dtype::Bf16, 20, 100).unwrap();
    let kernels = Kernels::new(Isa::Scalar, 1);
    let results = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Scalar].map(|isa| {
        let mut packed = PackedRows::for_isa(isa);
        packed.pack(Dtype::Bf16, &x, 11, 100);
        let mut y = vec![0.0; 11 * 20];
        kernels.linear(&matrix, &packed, None, &mut y);
        y
    });
    assert!(results.iter().all(|y| *y == results[0]));
}

#[test]
#[should_panic(expected = "output of a linear layer")]
fn a_short_output_panics() {
    let bytes = [0; 64];
    let matrix = Matrix::new(&bytes, Dtype::F32, 4, 4).unwrap();
    let mut packed = PackedRows::new();
    packed.pack(Dtype::F32, &[0.0; 8], 2, 4);
    Kernels::new(Isa::Scalar, 1).linear(&matrix, &packed, None, &mut [0.0; 7]);
}

#[test]
#[should_panic(expected = "packed for another weight type")]
fn rows_packed_for_another_type_panic() {
    let bytes = [0; 64];
    let matrix = Matrix::new(&bytes, Dtype::F32, 4, 4).unwrap();
    let mut packed = PackedRows::new();
    packed.pack(Dtype::Bf16, &[0.0; 8], 2, 4);
    Kernels::new(Isa::Scalar, 1).linear(&matrix, &packed, None, &mut [0.0; 8]);
}

#[test]
#[should_panic(expected = "in_features")]
fn other_columns_panic() {
    let bytes = [0; 64];
    let matrix = Matrix::new(&bytes, Dtype::F32, 4, 4).unwrap();
    let mut packed = PackedRows::new();
    packed.pack(Dtype::F32, &[0.0; 10], 2, 5);
    Kernels::new(Isa::Scalar, 1).linear(&matrix, &packed, None, &mut [0.0; 8]);
}
