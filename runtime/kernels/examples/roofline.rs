//! The kernels against what the machine can do: `cargo run --release -p lime-kernels --example roofline [isa [dtype]]`.
//!
//! Everything is measured in alternation with its yardstick and printed as a ratio, since other work on the
//! machine moves both.

#![allow(unsafe_code)]

use lime_kernels::{AlignedBuf, Isa, Kernels, Matrix, PackedRows, encode, roofline};
use lime_plan::Dtype;

/// The matrices of a Llama of 1.1 B parameters: out x in.
const SHAPES: [(usize, usize); 4] = [(2048, 2048), (5632, 2048), (2048, 5632), (32000, 2048)];
const ROUNDS: usize = 4;

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next();
    let only = args.next();
    let isa = name.map_or_else(Isa::detect, |name| Isa::by_name(&name).expect("an instruction set of this machine"));
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, most] {
        let small = roofline::read_bandwidth(threads, false) / 1e9;
        let huge = roofline::read_bandwidth(threads, true) / 1e9;
        let peak = roofline::fma_peak(isa, threads) / 1e9;
        println!(
            "{isa}, {threads} threads: read {small:.1} GB/s on 4 KiB pages, {huge:.1} on huge pages; {peak:.0} GFLOP/s"
        );
    }
    for threads in [1, most] {
        let kernels = Kernels::new(isa, threads);
        let wanted = |ty: &Dtype| only.as_ref().is_none_or(|only| *only == ty.to_string());
        for ty in Dtype::ALL.into_iter().filter(wanted) {
            for (out, cols) in SHAPES {
                let weights = Weights::new(ty, out, cols);
                print!("{threads} threads {ty:>4} {out:>5} x {cols}:");
                for rows in [1, 2, 3] {
                    print!("  {rows} rows {:.2} of read", weights.bandwidth(&kernels, rows));
                }
                for rows in [4, 8, 32, 128] {
                    print!("  {rows} rows {:.2} of peak", weights.throughput(&kernels, rows));
                }
                println!();
            }
        }
    }
}

/// As many copies of a matrix as no cache holds.
struct Weights {
    ty: Dtype,
    out: usize,
    cols: usize,
    copies: Vec<AlignedBuf>,
}

impl Weights {
    fn new(ty: Dtype, out: usize, cols: usize) -> Self {
        let row: Vec<f32> = (0..cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let mut bytes = vec![0; cols * ty.size() as usize];
        encode(ty, &row, &mut bytes);
        let size = out * bytes.len();
        let copies = (0..(256 << 20) / size + 1)
            .map(|_| {
                let mut buffer = AlignedBuf::new(size).expect("memory for the weights");
                buffer.chunks_exact_mut(bytes.len()).for_each(|row| row.copy_from_slice(&bytes));
                buffer
            })
            .collect();
        Self { ty, out, cols, copies }
    }

    /// Seconds of one product, the best of many: short ones, some of which a busy machine leaves undisturbed.
    fn seconds(&self, kernels: &Kernels, rows: usize, mut yardstick: impl FnMut()) -> f64 {
        let x: Vec<f32> = (0..rows * self.cols).map(|i| ((i * 53 % 97) as f32 - 48.0) / 48.0).collect();
        let mut packed = PackedRows::new();
        packed.pack(self.ty, &x, rows, self.cols);
        let mut y = vec![0.0; rows * self.out];
        let copies = if rows > 8 { 4.min(self.copies.len()) } else { self.copies.len() };
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            yardstick();
            for copy in &self.copies[..copies] {
                let matrix = Matrix::new(copy, self.ty, self.out, self.cols).expect("the shape");
                let start = now(kernels.pool().threads());
                kernels.linear(&matrix, &packed, None, &mut y);
                best = best.min(now(kernels.pool().threads()) - start);
            }
        }
        best
    }

    fn bandwidth(&self, kernels: &Kernels, rows: usize) -> f64 {
        let mut yardstick = 0.0f64;
        let threads = kernels.pool().threads();
        let seconds =
            self.seconds(kernels, rows, || yardstick = yardstick.max(roofline::read_bandwidth(threads, true)));
        (self.out * self.cols * self.ty.size() as usize) as f64 / seconds / yardstick
    }

    fn throughput(&self, kernels: &Kernels, rows: usize) -> f64 {
        let mut yardstick = 0.0f64;
        let (isa, threads) = (kernels.isa(), kernels.pool().threads());
        let seconds = self.seconds(kernels, rows, || yardstick = yardstick.max(roofline::fma_peak(isa, threads)));
        2.0 * (self.out * self.cols * rows) as f64 / seconds / yardstick
    }
}

/// Seconds on the clock: one thread counts its own processor time, so that other work on the machine counts less.
fn now(threads: usize) -> f64 {
    let clock = if threads == 1 { libc::CLOCK_THREAD_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
