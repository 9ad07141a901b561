//! Products of quantized weights: `cargo run --release -p lime-kernels --example quants [threads [isa [MiB [format ...]]]]`.
//!
//! Each format has as many MiB of weights (512 unless said otherwise: more than any cache holds). The best of some rounds counts.

use std::process::ExitCode;
use std::time::Instant;

use lime_kernels::{AlignedBuf, Isa, Kernels, Matrix, PackedRows, format_bytes, roofline};
use lime_plan::Format;

/// A matrix as models of 1 B parameters have them: out x in.
const SHAPE: (usize, usize) = (5632, 2048);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.next().map_or(most, |threads| threads.parse().expect("a number of threads"));
    let isa =
        args.next().map_or_else(Isa::detect, |name| Isa::by_name(&name).expect("an instruction set of this machine"));
    let mib: usize = args.next().map_or(512, |mib| mib.parse().expect("a number of MiB"));
    let names: Vec<_> = args.collect();
    let read = roofline::read_bandwidth(threads, true) / 1e9;
    println!("{threads} threads, {isa}, {} x {}, read {read:.1} GB/s", SHAPE.0, SHAPE.1);
    println!("{:>8} {:>4}: GB/s of weights, Gweights/s times rows", "format", "rows");
    let kernels = Kernels::new(isa, threads);
    for format in Format::ALL {
        let asked = if names.is_empty() { format.is_quantized() } else { names.contains(&format.to_string()) };
        if !asked {
            continue;
        }
        let Ok(weights) = weights(format, mib << 20) else {
            println!("skipped: no memory for {mib} MiB of weights");
            return ExitCode::SUCCESS;
        };
        for rows in [1, 2, 4, 8, 16, 128] {
            let rounds = if rows < 16 { 3 } else { 1 };
            let pace = pace(&kernels, format, &weights, rows, rounds);
            let bytes = matrix_bytes(format) as f64 / (SHAPE.0 * SHAPE.1) as f64;
            println!(
                "{:>8} {rows:>4}: {:7.2} {:8.2}",
                format.to_string(),
                pace * bytes / 1e9,
                pace * rows as f64 / 1e9
            );
        }
    }
    ExitCode::SUCCESS
}

fn matrix_bytes(format: Format) -> usize {
    format_bytes(format, SHAPE.0, SHAPE.1).expect("a shape that every format can have") as usize
}

/// Whole matrices, about as many bytes; their scales are numbers of a usual size.
fn weights(format: Format, bytes: usize) -> Result<AlignedBuf, lime_kernels::BufferError> {
    let matrix = matrix_bytes(format);
    let mut weights = AlignedBuf::new(bytes.div_ceil(matrix) * matrix)?;
    let mut noise = 1u32;
    for byte in weights.iter_mut() {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (noise >> 24) as u8 & 0x3f;
    }
    Ok(weights)
}

/// Weights per second: the best round over all matrices, or over a few of them where many rows take long.
fn pace(kernels: &Kernels, format: Format, weights: &AlignedBuf, rows: usize, rounds: usize) -> f64 {
    let (out, columns) = SHAPE;
    let x: Vec<f32> = (0..rows * columns).map(|at| ((at * 53 % 97) as f32 - 48.0) / 48.0).collect();
    let mut packed = PackedRows::for_isa(kernels.isa());
    packed.pack(format, &x, rows, columns);
    let mut y = vec![0.0; rows * out];
    let count = if rows < 16 { usize::MAX } else { 4 };
    let mut best = 0f64;
    for _ in 0..rounds {
        let (start, mut done) = (Instant::now(), 0);
        for bytes in weights.chunks_exact(matrix_bytes(format)).take(count) {
            let matrix = Matrix::new(bytes, format, out, columns).expect("the shape");
            kernels.linear(&matrix, &packed, None, &mut y);
            done += out * columns;
        }
        best = best.max(done as f64 / start.elapsed().as_secs_f64());
    }
    best
}
