//! First touches of memory as a yardstick. A virtual machine whose host takes back what is free is given it again page by page,
//! which can take longer than to read the weights from the disk; a machine of its own only zeroes it.

use std::{thread, time::Instant};

use anyhow::Result;
use lime_kernels::{AlignedBuf, HUGE_PAGE};

/// Bytes per second of touching `bytes` of memory on huge pages for the first time, by `threads` threads. It is free again, and
/// at hand, for a moment afterwards.
pub(crate) fn touch(bytes: usize, threads: usize) -> Result<f64> {
    let begin = Instant::now();
    let mut memory = AlignedBuf::new(bytes.max(HUGE_PAGE))?;
    let part = memory.len().div_ceil(threads.max(1)).next_multiple_of(HUGE_PAGE);
    thread::scope(|scope| {
        for part in memory.chunks_mut(part) {
            scope.spawn(|| part.iter_mut().step_by(4 << 10).for_each(|byte| *byte = 1));
        }
    });
    Ok(bytes as f64 / begin.elapsed().as_secs_f64())
}
