//! What a digest of all that is read costs a core: `cargo run --release -p lime-store --example digest_speed`.
//!
//! Time is the thread's own, so that others on the machine change little.

use lime_store::{CHUNK_BYTES, Digest};

/// More than any cache holds.
const COLD: usize = 512 << 20;
const ROUNDS: usize = 5;

/// What this thread has had of a processor, as Linux counts it.
fn seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts the time of threads");
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    nanoseconds.expect("the first word is nanoseconds") as f64 * 1e-9
}

/// The best of some rounds over `chunks`, in bytes a second.
fn speed<'a>(chunks: impl Iterator<Item = &'a [u8]> + Clone) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..ROUNDS {
        let (begin, mut bytes) = (seconds(), 0);
        for chunk in chunks.clone() {
            bytes += chunk.len();
            std::hint::black_box(Digest::of_chunk(chunk));
        }
        best = best.max(bytes as f64 / (seconds() - begin));
    }
    best
}

fn main() {
    let memory: Vec<u8> =
        (0..COLD / 8).flat_map(|word| (word as u64).wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let warm = memory.chunks(CHUNK_BYTES).take(1).cycle().take(COLD / CHUNK_BYTES);
    println!("digests of one core: {:.1} GB/s out of memory", speed(memory.chunks(CHUNK_BYTES)) / 1e9);
    println!("digests of one core: {:.1} GB/s of one chunk again and again", speed(warm) / 1e9);
}
