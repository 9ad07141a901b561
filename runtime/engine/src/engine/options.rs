//! How a device computes and loads.

use lime_kernels::Isa;

use crate::stream::VerifyReads;

/// How a device computes and loads. None of it changes a bit of the result of exact arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Threads that compute, the caller's included.
    pub threads: usize,
    /// The instruction set; the machine's best where none is named.
    pub isa: Option<Isa>,
    /// The GPU that candle arithmetic runs on (a build with the feature `cuda`); the CPU where none is named.
    pub gpu: Option<usize>,
    /// Reads weights no faster than this, so that one machine can play a slow disk.
    pub disk_bytes_per_second: Option<u64>,
    /// How often streamed blocks are compared with their digests.
    pub verify_reads: VerifyReads,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: 1, isa: None, gpu: None, disk_bytes_per_second: None, verify_reads: VerifyReads::EVERY_USE }
    }
}
