//! Every product of quantized weights against its definition spelled out, bit for bit, and decoding against the formats in
//! words.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use half::f16;
use lime_kernels::{Isa, Kernels, LinearJob, Matrix, PackedRows, ShapeError, format_bytes};
use lime_plan::Format;
use proptest::prelude::*;

const QUANTIZED: [Format; 13] = [
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q4K,
    Format::Q5K,
    Format::Q6K,
    Format::Q2K,
    Format::Q3K,
    Format::Iq4Nl,
    Format::Iq4Xs,
    Format::Mxfp4,
];

/// The sixteen numbers of IQ4, as ggml's kvalues_iq4nl has them, and twice those of MXFP4 (kvalues_mxfp4).
const IQ4: [i32; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const MXFP4: [i32; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A block of 32 weights: what each is, its scale and offset.
struct Block {
    quants: [i32; 32],
    scale: f32,
    offset: Option<f32>,
    /// What the dots of the two halves are multiplied by.
    halves: Option<[i32; 2]>,
    /// What the offset is multiplied by in the two halves.
    offset_halves: Option<[i32; 2]>,
}

impl Block {
    fn plain(quants: [i32; 32], scale: f32, offset: Option<f32>) -> Self {
        Self { quants, scale, offset, halves: None, offset_halves: None }
    }

    /// The product of the weights, without scales, with those of an activation.
    fn dot(&self, x: &[i32; 32]) -> i32 {
        let dot = |range: std::ops::Range<usize>| range.map(|i| self.quants[i] * x[i]).sum::<i32>();
        match self.halves {
            Some([first, second]) => dot(0..16) * first + dot(16..32) * second,
            None => dot(0..32),
        }
    }

    /// What the offset is multiplied by: the sum of the activation's bytes, each with its half's factor.
    fn offset_dot(&self, x: &[i32; 32]) -> i32 {
        let halves = self.offset_halves.unwrap_or([1, 1]);
        x.iter().enumerate().map(|(i, x)| halves[i / 16] * x).sum()
    }

    fn decoded(&self) -> [f32; 32] {
        std::array::from_fn(|i| {
            let factor = self.halves.map_or(1, |halves| halves[i / 16]);
            let offset_factor = self.offset_halves.map_or(1, |halves| halves[i / 16]);
            self.quants[i] as f32 * (self.scale * factor as f32)
                + self.offset.map_or(0.0, |it| it * offset_factor as f32)
        })
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Column `i` of 32 in 16 bytes: the low halves of all, then the high ones.
fn nibble(bytes: &[u8], i: usize) -> i32 {
    i32::from(if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

fn bit(bytes: &[u8], i: usize) -> i32 {
    i32::from(bytes[i / 8] >> (i % 8) & 1)
}

fn k_block(format: Format, unit: &[u8], block: usize) -> Block {
    let packed = &unit[4..16];
    // ggml's get_scale_min_k4.
    let (scale, least) = match block {
        0..4 => (packed[block] & 63, packed[block + 4] & 63),
        _ => (
            packed[block + 4] & 0xf | (packed[block - 4] >> 6) << 4,
            packed[block + 4] >> 4 | (packed[block] >> 6) << 4,
        ),
    };
    let (fifths, quants) = if format == Format::Q5K { (Some(&unit[16..48]), &unit[48..]) } else { (None, &unit[16..]) };
    let quants = std::array::from_fn(|i| {
        let low = i32::from(quants[block / 2 * 32 + i] >> (block % 2 * 4) & 15);
        low + 16 * fifths.map_or(0, |fifths| i32::from(fifths[i] >> block & 1))
    });
    let (scale, offset) = (half(unit) * f32::from(scale), -(half(&unit[2..]) * f32::from(least)));
    Block::plain(quants, scale, Some(offset))
}

fn q6_k_block(unit: &[u8], block: usize) -> Block {
    let (low, high) = (&unit[64 * (block / 4)..], &unit[128 + 32 * (block / 4)..]);
    // ggml's dequantize_row_q6_K, whose four numbers are those of four blocks.
    let quants = std::array::from_fn(|l| {
        let number = match block % 4 {
            0 => low[l] & 0xf | (high[l] & 3) << 4,
            1 => low[l + 32] & 0xf | (high[l] >> 2 & 3) << 4,
            2 => low[l] >> 4 | (high[l] >> 4 & 3) << 4,
            _ => low[l + 32] >> 4 | (high[l] >> 6 & 3) << 4,
        };
        i32::from(number) - 32
    });
    let scales = [2 * block, 2 * block + 1].map(|at| i32::from(unit[192 + at] as i8));
    Block { quants, scale: half(&unit[208..]), offset: None, halves: Some(scales), offset_halves: None }
}

fn q2_k_block(unit: &[u8], block: usize) -> Block {
    // ggml's dequantize_row_q2_K: d * (scale & 0xF) * quant - dmin * (scale >> 4), each 16 columns.
    let factors = [unit[2 * block], unit[2 * block + 1]];
    let quants = std::array::from_fn(|l| i32::from(unit[16 + 32 * (block / 4) + l] >> (2 * (block % 4)) & 3));
    Block {
        quants,
        scale: half(&unit[80..]),
        offset: Some(-half(&unit[82..])),
        halves: Some(factors.map(|factor| i32::from(factor & 0xf))),
        offset_halves: Some(factors.map(|factor| i32::from(factor >> 4))),
    }
}

fn q3_k_block(unit: &[u8], block: usize) -> Block {
    // ggml's dequantize_row_q3_K, whose sixteen scales are put together from three words of four bytes.
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| unit[96 + 4 * at + i]));
    let (low, high) = (0x0f0f_0f0f, 0x0303_0303);
    let words = [
        word(0) & low | (word(2) & high) << 4,
        word(1) & low | (word(2) >> 2 & high) << 4,
        word(0) >> 4 & low | (word(2) >> 4 & high) << 4,
        word(1) >> 4 & low | (word(2) >> 6 & high) << 4,
    ];
    let scale = |at: usize| i32::from(words[at / 4].to_le_bytes()[at % 4] as i8) - 32;
    let quants = std::array::from_fn(|l| {
        let low = i32::from(unit[32 + 32 * (block / 4) + l] >> (2 * (block % 4)) & 3);
        if unit[l] & 1 << block == 0 { low - 4 } else { low }
    });
    let halves = Some([scale(2 * block), scale(2 * block + 1)]);
    Block { quants, scale: half(&unit[108..]), offset: None, halves, offset_halves: None }
}

fn iq4_xs_block(unit: &[u8], block: usize) -> Block {
    // ggml's dequantize_row_iq4_xs.
    let high = u16::from_le_bytes([unit[2], unit[3]]);
    let factor = unit[4 + block / 2] >> (4 * (block % 2)) & 0xf | ((high >> (2 * block) & 3) << 4) as u8;
    let quants = std::array::from_fn(|i| IQ4[nibble(&unit[8 + 16 * block..], i) as usize]);
    Block::plain(quants, half(unit) * (f32::from(factor) - 32.0), None)
}

fn mxfp4_block(unit: &[u8]) -> Block {
    let quants = std::array::from_fn(|i| MXFP4[nibble(&unit[1..], i) as usize]);
    Block::plain(quants, 2f64.powi(i32::from(unit[0]) - 128) as f32, None)
}

/// The blocks of a stored unit, as ggml defines them.
fn blocks(format: Format, unit: &[u8]) -> Vec<Block> {
    match format {
        Format::Q8_0 => {
            let quants = std::array::from_fn(|i| i32::from(unit[2 + i] as i8));
            vec![Block::plain(quants, half(unit), None)]
        }
        Format::Q4_0 => {
            let quants = std::array::from_fn(|i| nibble(&unit[2..], i) - 8);
            vec![Block::plain(quants, half(unit), None)]
        }
        Format::Q4_1 => {
            let quants = std::array::from_fn(|i| nibble(&unit[4..], i));
            vec![Block::plain(quants, half(unit), Some(half(&unit[2..])))]
        }
        Format::Q5_0 => {
            let quants = std::array::from_fn(|i| (nibble(&unit[6..], i) | bit(&unit[2..], i) << 4) - 16);
            vec![Block::plain(quants, half(unit), None)]
        }
        Format::Q5_1 => {
            let quants = std::array::from_fn(|i| nibble(&unit[8..], i) | bit(&unit[4..], i) << 4);
            vec![Block::plain(quants, half(unit), Some(half(&unit[2..])))]
        }
        Format::Q4K | Format::Q5K => (0..8).map(|block| k_block(format, unit, block)).collect(),
        Format::Q6K => (0..8).map(|block| q6_k_block(unit, block)).collect(),
        Format::Q2K => (0..8).map(|block| q2_k_block(unit, block)).collect(),
        Format::Q3K => (0..8).map(|block| q3_k_block(unit, block)).collect(),
        Format::Iq4Nl => {
            let quants = std::array::from_fn(|i| IQ4[nibble(&unit[2..], i) as usize]);
            vec![Block::plain(quants, half(unit), None)]
        }
        Format::Iq4Xs => (0..8).map(|block| iq4_xs_block(unit, block)).collect(),
        Format::Mxfp4 => vec![mxfp4_block(unit)],
        other => panic!("{other} has no blocks"),
    }
}

fn row_of_blocks(format: Format, row: &[u8]) -> Vec<Block> {
    row.chunks(format.unit().unwrap().bytes).flat_map(|unit| blocks(format, unit)).collect()
}

/// Activations as bytes: quants, scale and sum of each block.
fn rounded(x: &[f32]) -> Vec<([i32; 32], f32, i32)> {
    x.chunks(32)
        .map(|x| {
            let greatest =
                x.iter().fold(0.0f32, |greatest, x| if x.is_nan() { f32::NAN } else { greatest.max(x.abs()) });
            let inverse = 127.0 / greatest;
            if x.iter().any(|x| !x.is_finite()) {
                return ([0; 32], f32::NAN, 0);
            }
            if !inverse.is_finite() {
                return ([0; 32], 0.0, 0);
            }
            let quants: [i32; 32] = std::array::from_fn(|i| (x[i] * inverse).round_ties_even() as i32);
            (quants, greatest / 127.0, quants.iter().sum())
        })
        .collect()
}

/// The definition, word for word.
fn defined(format: Format, row: &[u8], x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (b, (w, (quants, scale, sum))) in row_of_blocks(format, row).iter().zip(rounded(x)).enumerate() {
        let dot = w.dot(&quants);
        let lane = &mut lanes[b % 16];
        *lane = (w.scale * scale).mul_add(dot as f32, *lane);
        if let Some(offset) = w.offset {
            assert!(w.offset_halves.is_some() || w.offset_dot(&quants) == sum);
            *lane = offset.mul_add(scale * w.offset_dot(&quants) as f32, *lane);
        }
    }
    for step in [8, 4, 2, 1] {
        for l in 0..step {
            lanes[l] += lanes[l + step];
        }
    }
    lanes[0]
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() % 20_001) as f32 / 10_000.0 - 1.0).collect()
    }
}

/// Any bytes, in scales too: infinities and NaNs come, unless they are `tame`.
fn weights(format: Format, out: usize, columns: usize, tame: bool, random: &mut Random) -> Vec<u8> {
    let bytes = format_bytes(format, out, columns).unwrap() as usize;
    let mut bytes: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
    if tame {
        for unit in bytes.chunks_mut(format.unit().unwrap().bytes) {
            let at: &[usize] = match format {
                Format::Q6K => &[208],
                Format::Q2K => &[80, 82],
                Format::Q3K => &[108],
                Format::Mxfp4 => {
                    unit[0] = 120 + unit[0] % 8;
                    continue;
                }
                Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
                _ => &[0],
            };
            for at in at {
                let scale = f16::from_f32((random.next() % 1000) as f32 / 3000.0 - 0.1);
                unit[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
    }
    bytes
}

fn check(format: Format, out: usize, columns: usize, rows: usize, threads: usize, tame: bool, seed: u64) {
    let random = &mut Random(seed);
    let stored = weights(format, out, columns, tame, random);
    // At an odd address, exactly as long as the matrix.
    let shifted: Vec<u8> = std::iter::once(0).chain(stored.iter().copied()).collect();
    let matrix = Matrix::new(&shifted[1..], format, out, columns).unwrap();
    let (mut x, bias) = (random.floats(rows * columns), random.floats(out));
    if !tame {
        x[0] = [f32::NAN, f32::INFINITY, 1e-39, 0.0][seed as usize % 4];
    }
    for isa in Isa::available() {
        let kernels = Kernels::new(isa, threads);
        let mut packed = PackedRows::for_isa(isa);
        packed.pack(format, &x, rows, columns);
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
                let expected = defined(format, matrix.row(o), &x[row * columns..][..columns]);
                let (y, z) = (y[row * out + o], z[row * out + o]);
                assert!(same(y, expected), "{isa} {format} row {row} output {o}: {y:e} is not {expected:e}");
                assert!(same(z, expected + bias[o]), "{isa} {format} row {row} output {o} with bias");
            }
        }
    }
}

/// The columns of a row: whole units.
fn columns(format: Format, blocks: usize) -> usize {
    (blocks * 32).next_multiple_of(format.unit().unwrap().columns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_are_as_defined(
        format in proptest::sample::select(&QUANTIZED[..]),
        out in 1usize..40,
        blocks in 1usize..40,
        // Rows alone, a group of sixteen that is filled up, and a group with some alone.
        rows in 1usize..26,
        threads in 1usize..4,
        tame in proptest::bool::weighted(0.7),
        seed in any::<u32>(),
    ) {
        check(format, out, columns(format, blocks), rows, threads, tame, seed.into());
    }
}

#[test]
fn many_rows_and_long_ones_are_as_defined() {
    for format in QUANTIZED {
        for (out, blocks, rows) in [(19, 40, 33), (9, 16, 70), (130, 3, 1), (5, 100, 8), (3, 18, 150)] {
            check(format, out, columns(format, blocks), rows, 2, true, 7);
        }
    }
}

#[test]
fn no_row_influences_another() {
    for format in QUANTIZED {
        let (out, columns, random) = (30, columns(format, 9), &mut Random(3));
        let stored = weights(format, out, columns, true, random);
        let matrix = Matrix::new(&stored, format, out, columns).unwrap();
        let x = random.floats(40 * columns);
        let kernels = Kernels::new(Isa::detect(), 2);
        let (mut packed, mut all) = (PackedRows::new(), vec![0.0; 40 * out]);
        packed.pack(format, &x, 40, columns);
        kernels.linear(&matrix, &packed, None, &mut all);
        for row in 0..40 {
            let mut alone = vec![0.0; out];
            packed.pack(format, &x[row * columns..][..columns], 1, columns);
            kernels.linear(&matrix, &packed, None, &mut alone);
            assert_eq!(alone, all[row * out..][..out], "{format}");
        }
    }
}

#[test]
fn rows_decode_as_ggml_decodes_them() {
    for format in QUANTIZED {
        let (out, columns, random) = (5, columns(format, 37), &mut Random(11));
        let stored = weights(format, out, columns, false, random);
        let matrix = Matrix::new(&stored, format, out, columns).unwrap();
        for index in 0..out {
            let expected: Vec<f32> = row_of_blocks(format, matrix.row(index)).iter().flat_map(Block::decoded).collect();
            for isa in Isa::available() {
                let mut row = vec![0.0; columns];
                matrix.decode_row(index, isa, &mut row);
                assert!(row.iter().zip(&expected).all(|(a, b)| same(*a, *b)), "{format} row {index}");
            }
        }
    }
}

#[test]
fn lying_shapes_are_refused() {
    let bytes = [0; 3 * 2 * 34];
    assert!(Matrix::new(&bytes, Format::Q8_0, 3, 64).is_ok());
    assert!(matches!(Matrix::new(&bytes[1..], Format::Q8_0, 3, 64), Err(ShapeError::Bytes { expected: 204, .. })));
    assert!(matches!(Matrix::new(&bytes, Format::Q8_0, 3, 60), Err(ShapeError::Columns { unit: 32, .. })));
    let (most, least) = (usize::MAX / 32 * 32, 32);
    assert!(matches!(Matrix::new(&bytes, Format::Q8_0, most, least), Err(ShapeError::TooBig { .. })));
    assert!(matches!(Matrix::new(&bytes, Format::Q8_0, least, most), Err(ShapeError::TooBig { .. })));
}

#[test]
#[should_panic(expected = "packed for another weight type")]
fn lanes_are_no_bytes() {
    let bytes = [0; 34];
    let matrix = Matrix::new(&bytes, Format::Q8_0, 1, 32).unwrap();
    let mut packed = PackedRows::new();
    packed.pack(Format::F32, &[0.0; 32], 1, 32);
    Kernels::new(Isa::Scalar, 1).linear(&matrix, &packed, None, &mut [0.0]);
}
