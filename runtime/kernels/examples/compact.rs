//! Compact against raw weights: `cargo run --release -p lime-kernels --example compact [threads [isa [MiB]]]`.
//!
//! The two are measured by turns, on as many MiB of raw weights (1024 unless said otherwise: more than any cache holds).

use std::process::ExitCode;

use lime_kernels::roofline::{self, Forms};
use lime_kernels::{Isa, Kernels};

/// A matrix as models of 8 B parameters have them: out x in.
const SHAPE: (usize, usize) = (4096, 4096);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.next().map_or(most, |threads| threads.parse().expect("a number of threads"));
    let isas = match args.next() {
        Some(name) => vec![Isa::by_name(&name).expect("an instruction set of this machine")],
        None => Isa::available(),
    };
    let mib: usize = args.next().map_or(1024, |mib| mib.parse().expect("a number of MiB"));
    let (out, columns) = SHAPE;
    let Ok(forms) = Forms::new(out, columns, mib << 20) else {
        println!("skipped: no memory for {mib} MiB of weights in both forms");
        return ExitCode::SUCCESS;
    };
    let share = forms.compact_share();
    let read = roofline::read_bandwidth(threads, true) / 1e9;
    println!("{threads} threads, {out} x {columns}, compact {share:.4} of raw, read {read:.1} GB/s");
    for isa in isas {
        let kernels = Kernels::new(isa, threads);
        for rows in [1, 2, 3, 4, 8, 16, 128] {
            // Many rows take long, and no cache matters to them.
            let (copies, rounds) = if rows < 16 { (usize::MAX, 4) } else { (4, 4) };
            if isa == Isa::Scalar && rows > 3 {
                continue;
            }
            let pace = forms.pace(&kernels, rows, copies, rounds);
            println!(
                "{isa:>7} {rows:>3} rows: raw {:6.2} GB/s {:6.2} Gweights/s, compact {:6.2} GB/s {:6.2} Gweights/s, {:.3} of raw",
                pace.raw * 2.0 / 1e9,
                pace.raw / 1e9,
                pace.compact * share * 2.0 / 1e9,
                pace.compact / 1e9,
                pace.compact / pace.raw
            );
        }
    }
    ExitCode::SUCCESS
}
