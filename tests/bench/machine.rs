//! What the machine can do: the yardsticks.

use lime_kernels::{Isa, roofline};

/// Bytes per second that all threads together read from memory on huge pages.
pub(crate) fn read_bandwidth(threads: usize) -> f64 {
    roofline::read_bandwidth(threads, true)
}

/// f32 multiply-adds times two per second of all threads together.
pub(crate) fn fma_peak(threads: usize) -> f64 {
    roofline::fma_peak(Isa::detect(), threads)
}
