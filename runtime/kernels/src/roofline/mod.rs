//! What the machine can do: the yardsticks that the kernels are measured by.

mod forms;

use std::hint::black_box;
use std::time::Instant;

use crate::buffer::AlignedBuf;
use crate::isa::Isa;
use crate::lanes::TileLayout;
use crate::pool::Pool;
use crate::simd::{Simd, Task, run};

pub use forms::{FormSpeed, Forms};

/// Bytes that each thread reads in a round.
const ROUND_BYTES: usize = 16 << 20;
/// Lane groups in flight, enough to hide the latency of any machine.
const CHAINS: usize = 10;

/// How long to measure. Rounds are short, so that some run undisturbed on a busy machine; the best counts.
struct Effort {
    rounds: usize,
    /// Bytes that each thread reads in all rounds: more than any cache holds.
    read_bytes: usize,
    /// Fused multiply-adds of a round, per chain.
    steps: usize,
}

const FULL: Effort = Effort { rounds: 64, read_bytes: 256 << 20, steps: 256 << 10 };

/// Bytes per second that `threads` threads read from anonymous memory together, each its own; on huge pages or
/// on 4 KiB pages. The best of many rounds. Zero when there is no memory to measure with.
pub fn read_bandwidth(threads: usize, huge_pages: bool) -> f64 {
    read(&FULL, threads, huge_pages)
}

/// f32 operations per second (a fused multiply-add is two) of `threads` threads together, operands in registers.
/// The best of many rounds.
///
/// # Panics
/// When this machine does not have `isa`.
pub fn fma_peak(isa: Isa, threads: usize) -> f64 {
    fma(&FULL, isa, threads)
}

fn read(effort: &Effort, threads: usize, huge_pages: bool) -> f64 {
    let pool = Pool::new(threads);
    let buffers: Result<Vec<_>, _> = (0..pool.threads()).map(|_| AlignedBuf::new(effort.read_bytes)).collect();
    let Ok(mut buffers) = buffers else { return 0.0 };
    for buffer in &mut buffers {
        if !huge_pages {
            buffer.refuse_huge_pages();
        }
        buffer.fill(1);
    }
    let isa = Isa::detect();
    let seconds = best_round(effort, &pool, |round, thread| {
        let part = &buffers[thread][round * ROUND_BYTES % effort.read_bytes..][..ROUND_BYTES];
        // SAFETY: `isa` was detected.
        unsafe { run(isa, ReadAll(part)) };
    });
    (pool.threads() * ROUND_BYTES) as f64 / seconds
}

fn fma(effort: &Effort, isa: Isa, threads: usize) -> f64 {
    assert!(Isa::available().contains(&isa), "this machine does not have {isa}");
    let pool = Pool::new(threads);
    // Scalar code may call a library for each of them.
    let steps = if isa == Isa::Scalar { effort.steps / 64 } else { effort.steps };
    // SAFETY: checked above.
    let seconds = best_round(effort, &pool, |_, _| unsafe { run(isa, FmaChains(steps)) });
    (2 * TileLayout::of(isa).group * CHAINS * steps * pool.threads()) as f64 / seconds
}

/// Seconds of the best round of `body` (round, thread) on all threads at once.
fn best_round(effort: &Effort, pool: &Pool, body: impl Fn(usize, usize) + Sync) -> f64 {
    let mut best = f64::INFINITY;
    for round in 0..effort.rounds {
        let start = Instant::now();
        pool.run(pool.threads(), |thread| body(round, thread));
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Reads every byte once, in two streams.
struct ReadAll<'a>(&'a [u8]);

impl Task for ReadAll<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let floats = self.0.len() / size_of::<f32>() / 2;
        let p = self.0.as_ptr().cast::<f32>();
        // SAFETY: two halves of the buffer, 64 floats at a time, loads of any alignment.
        unsafe {
            let mut acc = [S::splat(0.0); 4];
            for at in (0..floats - 31).step_by(32) {
                acc[0] = S::add(acc[0], S::load(p.add(at)));
                acc[1] = S::add(acc[1], S::load(p.add(at + 16)));
                acc[2] = S::add(acc[2], S::load(p.add(floats + at)));
                acc[3] = S::add(acc[3], S::load(p.add(floats + at + 16)));
            }
            black_box(S::sum(S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3]))));
        }
    }
}

/// Independent chains of fused multiply-adds.
struct FmaChains(usize);

impl Task for FmaChains {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let start = black_box([0.999_9f32; 16]);
        // SAFETY: the arrays hold sixteen floats.
        unsafe {
            let factor = S::group_load(start.as_ptr());
            let mut acc = [factor; CHAINS];
            for _ in 0..self.0 {
                for acc in &mut acc {
                    *acc = S::group_fma(*acc, factor, factor);
                }
            }
            let mut out = [0.0f32; 16];
            for acc in acc {
                S::group_store(out.as_mut_ptr(), acc);
                black_box(&out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_yardstick_is_positive() {
        let effort = Effort { rounds: 2, read_bytes: ROUND_BYTES, steps: 1 << 10 };
        assert!(read(&effort, 1, true) > 0.0);
        assert!(read(&effort, 2, false) > 0.0);
        for isa in Isa::available() {
            assert!(fma(&effort, isa, 2) > 0.0);
        }
    }
}
