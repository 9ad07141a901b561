//! What the ring itself costs: passes of one row through rings of fakes on loopback, whose computation is next to nothing.
//!
//! `cargo run --release -p lime-worker --example hop_overhead [-- ROUNDS]` prints the time of a pass by ring size, the cost
//! of one hop, and what that is of a token of 50 ms.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Ring, card, next, plan, rows};
use lime_worker::fake::FakeLoader;

/// Activations of 8 KiB.
const HIDDEN: u32 = 2048;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(measure());
}

async fn measure() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2000);
    let idle = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut alone = None;
    println!("{rounds} passes of one row, activations of {} KiB, layers of {idle} us", HIDDEN * 4 / 1024);
    println!("{:>8} {:>6} {:>9} {:>9} {:>9}", "workers", "hops", "p50 us", "p99 us", "us a hop");
    for devices in [1, 2, 4, 8] {
        let times = passes(devices, rounds, Duration::from_micros(idle)).await;
        let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
        let (p50, p99) = (at(0.5), at(0.99));
        let alone = *alone.get_or_insert(p50);
        let hops = devices - 1;
        let hop = (p50 - alone) / hops.max(1) as f64;
        println!("{devices:>8} {hops:>6} {p50:>9.0} {p99:>9.0} {hop:>9.0}");
        if devices == 4 {
            println!("{:>24} {:.1} % of a token of 50 ms", "", (p50 - alone) / 500.0);
        }
    }
}

/// Times of single passes, ascending.
async fn passes(devices: usize, rounds: u32, layer_time: Duration) -> Vec<Duration> {
    let plan = plan(card(8, HIDDEN, 97), devices, 1, devices - 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader { layer_time, ..FakeLoader::default() }).await;
    let mut driver = ring.configure(1).await;
    let mut times = Vec::new();
    for round in 0..rounds {
        let begin = Instant::now();
        let row = vec![rows(0, round % 64, 1, Some(0))];
        driver.submit(row, vec![round % 97], vec![]).await.expect("a ring that goes on");
        next(&mut driver).await;
        times.push(begin.elapsed());
    }
    drop(driver);
    ring.stop().await;
    times.sort_unstable();
    times
}
