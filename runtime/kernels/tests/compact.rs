//! The compact form: the same bits back, the same products, and nothing worse than wrong numbers from wrong bytes.

use lime_kernels::{
    CompactError, Compactor, Isa, Kernels, LinearJob, Matrix, PackedRows, ShapeError, compact_bytes, decode, encode,
};
use lime_plan::{Dtype, Format};
use proptest::prelude::*;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f32 {
        let (a, b) = (1.0 - self.uniform(), self.uniform());
        ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
    }
}

/// Raw bf16 bytes of Gaussian weights, every row with a deviation of its own.
fn gaussian(out: usize, columns: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut raw = vec![0; out * columns * 2];
    for row in raw.chunks_exact_mut(columns * 2) {
        let deviation = 0.01 + 0.03 * random.uniform() as f32;
        let values: Vec<f32> = (0..columns).map(|_| random.gaussian() * deviation).collect();
        encode(Dtype::Bf16, &values, row);
    }
    raw
}

/// The compact form, made of `rows_at_a_time` rows; every byte must come exactly once.
fn compact(raw: &[u8], out: usize, columns: usize, rows_at_a_time: usize) -> Result<Vec<u8>, CompactError> {
    let mut bytes = vec![0xaa; compact_bytes(out, columns) as usize];
    let mut written = vec![false; bytes.len()];
    let mut sink = |at: u64, part: &[u8]| {
        let range = at as usize..at as usize + part.len();
        bytes[range.clone()].copy_from_slice(part);
        assert!(written[range.clone()].iter().all(|written| !written), "bytes written twice");
        written[range].fill(true);
        Ok(())
    };
    let mut compactor = Compactor::new(out, columns).expect("a shape");
    for rows in raw.chunks(rows_at_a_time * columns * 2) {
        compactor.push_rows(rows, &mut sink)?;
    }
    compactor.finish(&mut sink)?;
    assert!(written.into_iter().all(|written| written), "bytes not written");
    Ok(bytes)
}

fn assert_comes_back(raw: &[u8], out: usize, columns: usize) {
    let bytes = compact(raw, out, columns, 3).expect("a matrix that fits");
    assert_eq!(bytes, compact(raw, out, columns, out).expect("it fitted"), "the form depends on the rows at a time");
    let matrix = Matrix::new(&bytes, Format::CompactBf16, out, columns).expect("the shape");
    assert!(matrix.format() == Format::CompactBf16);
    let (mut values, mut expected) = (vec![0.0; columns], vec![0.0; columns]);
    for (index, raw) in raw.chunks_exact(columns * 2).enumerate() {
        decode(Dtype::Bf16, raw, &mut expected);
        for isa in Isa::available() {
            matrix.decode_row(index, isa, &mut values);
            let is_same = values.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(is_same, "row {index} of {out} x {columns} on {isa}");
        }
    }
}

fn words(words: impl IntoIterator<Item = u16>) -> Vec<u8> {
    words.into_iter().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn gaussian_weights_come_back() {
    for (out, columns) in [(1, 4000), (9, 300), (70, 65), (33, 64), (200, 63), (5, 512), (6, 513), (40, 2048), (300, 1)]
    {
        assert_comes_back(&gaussian(out, columns, 1), out, columns);
    }
}

#[test]
fn what_no_gaussian_has_comes_back() {
    let (out, columns) = (6, 700);
    // Zeros of both signs, one value, denormals, infinities and NaNs with any payload.
    for word in [0, 0x8000, 0x3f80, 0xbc17, 0x0001, 0x807f, 0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7f81] {
        assert_comes_back(&words(vec![word; out * columns]), out, columns);
    }
    let mut random = Random(2);
    // Every sign and mantissa with eight exponents, the least and the greatest among them.
    let exponents = [0, 255, 1, 254, 127, 100, 50, 128];
    let any = (0..out * columns).map(|_| random.next() as u16 & 0x807f | exponents[random.below(8)] << 7);
    assert_comes_back(&words(any.collect::<Vec<_>>()), out, columns);
}

#[test]
fn exceptions_come_back_wherever_they_are() {
    let columns = 5000;
    // Far apart, at both ends, neighbours, and every one of a short row.
    for at in [
        vec![0],
        vec![4999],
        vec![255],
        vec![256],
        vec![0, 255, 510],
        vec![0, 4999],
        (700..730).collect(),
        vec![1, 2600],
    ] {
        let mut row: Vec<u16> = (0..columns).map(|i| (100 + i as u16 % 8) << 7 | i as u16 & 0x7f).collect();
        for &column in &at {
            row[column] = 0x8000 | (column as u16 % 100 + 150) << 7 | 5;
        }
        assert_comes_back(&words(row), 1, columns);
    }
    assert_comes_back(&words((0..40).map(|i| i * 0x0180)), 1, 40);
}

#[test]
fn too_varied_is_an_error() {
    let mut random = Random(3);
    let raw = words((0..100 * 300).map(|_| random.next() as u16));
    let error = compact(&raw, 100, 300, 10).expect_err("no room for so many exceptions");
    let CompactError::TooVaried { needed, fits, rows, out_features } = error else { panic!("{error}") };
    assert!(needed > fits && fits == 100 * 300 / 40 + 32 && rows <= 10 && out_features == 100, "{needed} of {fits}");
}

#[test]
fn wrong_rows_are_errors() {
    let mut nowhere = |_: u64, _: &[u8]| Ok(());
    let mut compactor = Compactor::new(4, 10).unwrap();
    assert!(matches!(compactor.push_rows(&[0; 19], &mut nowhere), Err(CompactError::Rows { bytes: 19, left: 4, .. })));
    compactor.push_rows(&[0; 60], &mut nowhere).unwrap();
    assert!(matches!(compactor.push_rows(&[0; 40], &mut nowhere), Err(CompactError::Rows { left: 1, .. })));
    assert!(matches!(compactor.finish(&mut nowhere), Err(CompactError::Unfinished { rows: 3, out_features: 4 })));
    let mut full = |_: u64, _: &[u8]| Err(std::io::Error::other("disk full"));
    let pushed = Compactor::new(4, 10).unwrap().push_rows(&[0; 80], &mut full);
    assert!(matches!(pushed, Err(CompactError::Sink(_))));
    assert!(matches!(Compactor::new(0, 10), Err(ShapeError::Empty { .. })));
    assert!(matches!(Compactor::new(usize::MAX, 10), Err(ShapeError::TooBig { .. })));
}

#[test]
fn lying_compact_shapes_are_refused() {
    let bytes = vec![0; compact_bytes(3, 100) as usize];
    assert!(Matrix::new(&bytes, Format::CompactBf16, 3, 100).is_ok());
    assert!(matches!(
        Matrix::new(&bytes[1..], Format::CompactBf16, 3, 100),
        Err(ShapeError::Bytes { format: Format::CompactBf16, .. })
    ));
    assert!(matches!(
        Matrix::new(&bytes, Format::CompactBf16, 30, 100),
        Err(ShapeError::Bytes { format: Format::CompactBf16, .. })
    ));
    assert!(matches!(Matrix::new(&bytes, Format::CompactBf16, 0, 100), Err(ShapeError::Empty { .. })));
    assert!(matches!(Matrix::new(&bytes, Format::CompactBf16, usize::MAX, usize::MAX), Err(ShapeError::TooBig { .. })));
}

#[test]
#[should_panic(expected = "does not store rows")]
fn a_compact_matrix_has_no_stored_rows() {
    let bytes = vec![0; compact_bytes(3, 100) as usize];
    Matrix::new(&bytes, Format::CompactBf16, 3, 100).unwrap().row(0);
}

/// Products with both forms, one call for both, with and without bias.
fn assert_same_products(out: usize, columns: usize, rows: usize, threads: usize, seed: u64) {
    let raw = gaussian(out, columns, seed);
    let bytes = compact(&raw, out, columns, out).expect("Gaussian weights fit");
    let mut random = Random(seed + 1);
    let x: Vec<f32> = (0..rows * columns).map(|_| random.gaussian()).collect();
    let bias: Vec<f32> = (0..out).map(|_| random.gaussian()).collect();
    let matrices = [
        Matrix::new(&raw, Dtype::Bf16, out, columns).expect("the shape"),
        Matrix::new(&bytes, Format::CompactBf16, out, columns).expect("the shape"),
    ];
    let mut expected: Option<[Vec<f32>; 2]> = None;
    for isa in Isa::available() {
        let kernels = Kernels::new(isa, threads);
        let mut packed = PackedRows::new();
        packed.pack(Dtype::Bf16, &x, rows, columns);
        let mut y = vec![[vec![f32::NAN; rows * out], vec![f32::NAN; rows * out]]; 2];
        let mut jobs: Vec<_> = y
            .iter_mut()
            .zip(matrices)
            .flat_map(|([plain, biased], weights)| {
                [LinearJob { weights, bias: None, y: plain }, LinearJob { weights, bias: Some(&bias), y: biased }]
            })
            .collect();
        kernels.linear_many(&mut jobs, &packed);
        for y in y {
            let expected = expected.get_or_insert_with(|| y.clone());
            for (a, b) in y.iter().flatten().zip(expected.iter().flatten()) {
                assert_eq!(a.to_bits(), b.to_bits(), "{isa}, {out} x {columns}, {rows} rows");
            }
        }
    }
}

#[test]
fn products_are_those_of_the_raw_matrix() {
    for rows in (1..10).chain([130, 140]) {
        for (out, columns, threads) in [(70, 700, 1), (37, 1100, 3)] {
            assert_same_products(out, columns, rows, threads, rows as u64);
        }
    }
    for rows in [1, 3, 5] {
        for columns in [1, 31, 63, 64, 65, 127, 512, 2080, 5000] {
            assert_same_products(19, columns, rows, 2, columns as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn products_of_any_shape(
        out in 1usize..90,
        columns in 1usize..400,
        rows in 1usize..12,
        threads in 1usize..4,
        seed in any::<u32>(),
    ) {
        assert_same_products(out, columns, rows, threads, seed.into());
    }

    #[test]
    fn any_values_come_back_where_they_fit(
        out in 1usize..20,
        columns in 1usize..700,
        exponents in proptest::collection::vec(0u16..256, 1..10),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let raw = words((0..out * columns).map(|_| {
            let exponent = if random.below(100) == 0 { random.below(256) as u16 } else { exponents[random.below(exponents.len())] };
            random.next() as u16 & 0x807f | exponent << 7
        }).collect::<Vec<_>>());
        match compact(&raw, out, columns, 7) {
            Ok(_) => assert_comes_back(&raw, out, columns),
            Err(error) => prop_assert!(matches!(error, CompactError::TooVaried { .. }), "{error}"),
        }
    }
}

#[test]
fn wrong_bytes_give_wrong_numbers_and_nothing_worse() {
    let (out, columns) = (21, 600);
    let raw = gaussian(out, columns, 5);
    let right = compact(&raw, out, columns, out).unwrap();
    let mut random = Random(6);
    let kernels: Vec<_> = Isa::available().into_iter().map(|isa| Kernels::new(isa, 1)).collect();
    let x: Vec<f32> = (0..5 * columns).map(|_| random.gaussian()).collect();
    let packed: Vec<_> = [1, 3, 5]
        .map(|rows| {
            let mut packed = PackedRows::new();
            packed.pack(Dtype::Bf16, &x[..rows * columns], rows, columns);
            packed
        })
        .into();
    for round in 0..3000 {
        // A buffer of its own, exactly as long as the matrix.
        let mut bytes = right.clone();
        match round % 3 {
            0 => bytes.iter_mut().for_each(|byte| *byte = random.next() as u8),
            1 => bytes[right.len() * 9 / 10..].iter_mut().for_each(|byte| *byte |= random.next() as u8),
            _ => {
                for _ in 0..1 + random.below(40) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.next() as u8;
                }
            }
        }
        let matrix = Matrix::new(&bytes, Format::CompactBf16, out, columns).unwrap();
        let mut row = vec![0.0; columns];
        let index = random.below(out);
        for kernels in &kernels {
            matrix.decode_row(index, kernels.isa(), &mut row);
        }
        let x = &packed[round % packed.len()];
        let mut y = vec![0.0; x.rows() * out];
        let all = kernels.iter().map(|kernels| {
            kernels.linear(&matrix, x, None, &mut y);
            y.clone()
        });
        // Wrong, but the same wrong everywhere.
        let all: Vec<_> = all.collect();
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(all.iter().all(|y| y.iter().zip(&all[0]).all(|(a, b)| same(a, b))), "round {round}");
    }
}
