//! How fast the kernels that serve are here: one row (bound by memory), many rows (bound by arithmetic), and what a block
//! costs however small it is.

use std::{collections::BTreeMap, time::Duration};

use lime_kernels::{AlignedBuf, Compactor, Isa, Kernels, LinearJob, Matrix, PackedRows, compact_bytes, encode};
use lime_plan::{Dtype, Format, FormatSpeed};
use serde::{Deserialize, Serialize};

use crate::error::ProfileError;
use crate::sample::{Rounds, median, seconds};

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct ComputeEffort {
    /// Bytes of weights that are read; more where the caches hold so many (see [`ComputeEffort::beyond_caches`]).
    pub bytes: usize,
    /// Seconds for each of the figures, about.
    pub seconds: f64,
    /// Rows of a prefill chunk.
    pub rows: usize,
}

impl ComputeEffort {
    /// Less than a second in all: for `lime up`.
    pub const SHORT: Self = Self { bytes: 128 << 20, seconds: 0.2, rows: 128 };
    /// A few seconds: for `lime profile`.
    pub const FULL: Self = Self { bytes: 256 << 20, seconds: 1.0, rows: 128 };
}

impl ComputeEffort {
    /// As much effort with weights of three times the last cache's size, if that is more: servers have caches of hundreds of
    /// megabytes, in which no model stays from token to token. At most a quarter of the memory that is free.
    #[must_use]
    pub fn beyond_caches(self) -> Self {
        let cache = last_cache(|path| std::fs::read_to_string(path).ok()).unwrap_or(0);
        let most =
            crate::memory().map_or(self.bytes, |memory| usize::try_from(memory.usable / 4).unwrap_or(self.bytes));
        Self { bytes: self.bytes.max(cache.saturating_mul(3).min(most)), ..self }
    }
}

/// Bytes of the largest cache of the first processor, as `/sys` names them (`266240K`).
fn last_cache(read: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let sizes = (0..8).filter_map(|index| {
        let text = read(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size"))?;
        let text = text.trim();
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let shift = match unit {
            "" => 0,
            "K" => 10,
            "M" => 20,
            _ => return None,
        };
        digits.parse::<usize>().ok()?.checked_mul(1 << shift)
    });
    sizes.max()
}

/// The kernels' speed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compute {
    /// Bytes of weights per second in products of one row.
    pub memory_bandwidth: u64,
    /// Bytes of compact weights per second in products of one row; `None` where the weights are not bf16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_bandwidth: Option<u64>,
    /// The same, and operations per second, with weights of other formats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formats: BTreeMap<Format, FormatSpeed>,
    /// f32 operations per second in products of [`Self::rows`] rows.
    pub throughput: u64,
    /// Nanoseconds of a block whose matrices weigh nothing.
    pub block_latency_nanos: u64,
    /// Rows of the products that gave the throughput.
    pub rows: usize,
    /// How the weights were stored.
    pub weights: String,
    /// Instruction set of the kernels.
    pub kernels: String,
    /// Threads that computed.
    pub threads: usize,
}

/// A matrix as models of a few billion parameters have them.
const OUT: usize = 2048;
const COLUMNS: usize = 2048;

/// Rows of a compact matrix that differ.
const ROWS: usize = 64;

/// A block so small that nothing but its fixed cost is left.
const TINY: usize = 64;

/// Parallel loops of an attention block: norm and projections, rope and KV store, attention, output.
const LOOPS: usize = 4;

/// Measures `threads` threads on weights stored as `ty`, and shortly on those of other `formats`.
///
/// # Errors
/// When there is no memory to measure with.
pub fn compute(effort: ComputeEffort, ty: Dtype, formats: &[Format], threads: usize) -> Result<Compute, ProfileError> {
    let kernels = Kernels::new(Isa::detect(), threads);
    let weights = Weights::new(ty.into(), OUT, COLUMNS, effort.bytes)?;
    let tiny = Weights::new(ty.into(), TINY, TINY, 1)?;
    let within = Duration::from_secs_f64(effort.seconds);
    let bandwidth = |round: f64| weights.bytes() as f64 / round;
    // The first round warms up: threads, pages, clock speed.
    let one_row = Rounds { least: 4, most: 64, within };
    let mut first = true;
    let slowest = median(one_row, || {
        if std::mem::take(&mut first) {
            weights.pass(&kernels, 1, weights.copies.len());
        }
        weights.pass(&kernels, 1, weights.copies.len())
    });
    let compact_bandwidth =
        (ty == Dtype::Bf16).then(|| compact_bandwidth(&kernels, effort.bytes, one_row)).transpose()?;
    let copies = weights.copies.len().min(2);
    let many_rows = Rounds { least: 3, most: 64, within };
    let products = median(many_rows, || weights.pass(&kernels, effort.rows, copies));
    let flops = 2.0 * (OUT * COLUMNS * effort.rows * copies) as f64;
    let small = Rounds { least: 100, most: 2000, within: within / 4 };
    let block = median(small, || (0..LOOPS).map(|_| tiny.pass(&kernels, 1, 1)).sum());
    let mut measured = BTreeMap::new();
    for format in formats {
        measured.insert(*format, format_speed(&kernels, effort, *format)?);
    }
    Ok(Compute {
        memory_bandwidth: bandwidth(slowest) as u64,
        compact_bandwidth,
        formats: measured,
        throughput: (flops / products) as u64,
        block_latency_nanos: (block * 1e9) as u64,
        rows: effort.rows,
        weights: ty.to_string(),
        kernels: kernels.isa().to_string(),
        threads: kernels.pool().threads(),
    })
}

/// The speed with weights of a format, from a few rounds.
fn format_speed(kernels: &Kernels, effort: ComputeEffort, format: Format) -> Result<FormatSpeed, ProfileError> {
    let weights = Weights::new(format, OUT, COLUMNS, effort.bytes)?;
    let within = Duration::from_secs_f64(effort.seconds / 8.0);
    weights.pass(kernels, 1, weights.copies.len());
    let one_row = median(Rounds { least: 2, most: 16, within }, || weights.pass(kernels, 1, weights.copies.len()));
    let many = median(Rounds { least: 1, most: 16, within }, || weights.pass(kernels, effort.rows, 1));
    let operations = 2.0 * (OUT * COLUMNS * effort.rows) as f64;
    let speed = FormatSpeed {
        memory_bandwidth: (weights.bytes() as f64 / one_row) as u64,
        throughput: (operations / many) as u64,
    };
    Ok(speed)
}

/// Compact bytes per second in products of one row.
fn compact_bandwidth(kernels: &Kernels, bytes: usize, rounds: Rounds) -> Result<u64, ProfileError> {
    let weights = CompactWeights::new(bytes)?;
    weights.pass(kernels);
    let slowest = median(rounds, || weights.pass(kernels));
    Ok((weights.bytes() as f64 / slowest) as u64)
}

/// Copies of a compact matrix.
struct CompactWeights {
    copies: Vec<AlignedBuf>,
}

impl CompactWeights {
    fn new(bytes: usize) -> Result<Self, ProfileError> {
        let size = compact_bytes(OUT, COLUMNS) as usize;
        let mut first = AlignedBuf::new(size)?;
        let mut compactor = Compactor::new(OUT, COLUMNS).expect("a shape as models have it");
        let mut rows = vec![0; ROWS * COLUMNS * 2];
        rows.chunks_exact_mut(2).fold(0x9e37_79b9_7f4a_7c15, normal);
        let mut put = |at: u64, bytes: &[u8]| {
            first[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        };
        for _ in 0..OUT / ROWS {
            compactor.push_rows(&rows, &mut put).expect("normal weights can be compact");
        }
        compactor.finish(&mut put).expect("normal weights can be compact");
        let mut copies = vec![first];
        for _ in 1..bytes.div_ceil(size) {
            let mut copy = AlignedBuf::new(size)?;
            copy.copy_from_slice(&copies[0]);
            copies.push(copy);
        }
        Ok(Self { copies })
    }

    fn bytes(&self) -> usize {
        self.copies.iter().map(|copy| copy.len()).sum()
    }

    /// Seconds of one product of one row with each.
    fn pass(&self, kernels: &Kernels) -> f64 {
        let x: Vec<f32> = (0..COLUMNS).map(|at| ((at * 53 % 97) as f32 - 48.0) / 48.0).collect();
        let mut y = vec![0.0; OUT];
        let mut packed = PackedRows::new();
        seconds(|| {
            for copy in &self.copies {
                packed.pack(Dtype::Bf16, &x, 1, COLUMNS);
                let weights = Matrix::new(copy, Format::CompactBf16, OUT, COLUMNS).expect("made with this shape");
                kernels.linear_many(&mut [LinearJob { weights, bias: None, y: &mut y }], &packed);
            }
        })
    }
}

/// Writes a weight as trained ones lie, about normally: the sum of twelve even numbers. Gives the random numbers' next state.
fn normal(mut state: u64, weight: &mut [u8]) -> u64 {
    let mut sum = -6.0;
    for _ in 0..12 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sum += (state >> 40) as f32 / (1 << 24) as f32;
    }
    encode(Dtype::Bf16, &[sum * 0.02], weight);
    state
}

/// Copies of a matrix, as many as it takes to fill some memory.
struct Weights {
    format: Format,
    out: usize,
    columns: usize,
    copies: Vec<AlignedBuf>,
}

impl Weights {
    fn new(format: Format, out: usize, columns: usize, bytes: usize) -> Result<Self, ProfileError> {
        // Of quantized ones, whose every byte may be any: numbers of no extreme size.
        let mut stored = vec![0x11; format.row_bytes(columns as u64) as usize];
        if let Some(dtype) = format.element() {
            let row: Vec<f32> = (0..columns).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
            encode(dtype, &row, &mut stored);
        }
        let size = out * stored.len();
        let copies = (0..bytes.div_ceil(size).max(1)).map(|_| {
            let mut copy = AlignedBuf::new(size)?;
            copy.chunks_exact_mut(stored.len()).for_each(|row| row.copy_from_slice(&stored));
            Ok(copy)
        });
        Ok(Self { format, out, columns, copies: copies.collect::<Result<_, ProfileError>>()? })
    }

    fn bytes(&self) -> usize {
        self.copies.iter().map(|copy| copy.len()).sum()
    }

    /// Seconds of one product of `rows` rows with each of the first `copies`, activations packed anew each time as in a pass.
    fn pass(&self, kernels: &Kernels, rows: usize, copies: usize) -> f64 {
        let x: Vec<f32> = (0..rows * self.columns).map(|at| ((at * 53 % 97) as f32 - 48.0) / 48.0).collect();
        let mut y = vec![0.0; rows * self.out];
        let mut packed = PackedRows::new();
        seconds(|| {
            for copy in &self.copies[..copies] {
                packed.pack(self.format, &x, rows, self.columns);
                let weights = Matrix::new(copy, self.format, self.out, self.columns).expect("made with this shape");
                kernels.linear_many(&mut [LinearJob { weights, bias: None, y: &mut y }], &packed);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_cache_counts() {
        let of = |sizes: &[&str]| {
            last_cache(|path| {
                let index: usize = path.split_once("index")?.1.split('/').next()?.parse().ok()?;
                sizes.get(index).map(|size| format!("{size}\n"))
            })
        };
        assert_eq!(of(&["48K", "32K", "2048K", "266240K"]), Some(266_240 << 10));
        assert_eq!(of(&["32K", "1M", "7", "?", ""]), Some(1 << 20));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["99999999999999999999K"]), None);
    }

    #[test]
    fn every_figure_is_positive() {
        let effort = ComputeEffort { bytes: 8 << 20, seconds: 0.01, rows: 8 };
        let quantized: Vec<Format> = Format::ALL.into_iter().filter(|format| format.is_quantized()).collect();
        let found = compute(effort, Dtype::Bf16, &quantized, 1).expect("a little memory");
        assert_eq!(found.formats.len(), quantized.len());
        for (format, speed) in &found.formats {
            assert!(speed.memory_bandwidth > 1_000_000 && speed.throughput > 1_000_000, "{format}: {speed:?}");
        }
        assert!(found.memory_bandwidth > 1_000_000, "{found:?}");
        assert!(found.throughput > 1_000_000, "{found:?}");
        assert!(found.block_latency_nanos > 0, "{found:?}");
        assert_eq!((found.threads, found.weights.as_str()), (1, "bf16"));
    }
}
