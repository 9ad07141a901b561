//! How long the search takes: `cargo run --release -p lime-planner --example speed`.
//! Targets: 80 layers on 16 nodes in 100 ms, 126 layers on 64 nodes in 2 s.

use std::time::{Duration, Instant};

use lime_plan::{Bytes, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile};
use lime_planner::plan;

#[path = "../tests/support/mod.rs"]
mod support;

use support::{LLAMA_3_3_70B, Shape};

/// Unlike nodes: memory and speeds differ by index in a fixed pattern.
fn fleet(nodes: u64, gib: u64) -> Fleet {
    let node = |index: u64| NodeProfile {
        name: format!("node-{index:02}"),
        memory: Bytes::gib(gib + (index * 7) % 9),
        overhead: Bytes::mib(64),
        memory_bandwidth: 40_000_000_000 + (index * 13 % 7) * 20_000_000_000,
        compact_bandwidth: None,
        throughput: 500_000_000_000 + (index * 5 % 4) * 500_000_000_000,
        disk_bandwidth: Some(500_000_000 + (index * 11 % 5) * 500_000_000),
        block_latency: Nanos(20_000),
        formats: Default::default(),
    };
    let link = |from: usize, to: usize| Link {
        bandwidth: 12_500_000 * (1 + (from + to) as u64 % 3),
        latency: Nanos(200_000 + 50_000 * (from as u64 * 3 + to as u64) % 400_000),
    };
    Fleet::new((0..nodes).map(node).collect(), link)
}

/// Time that this process had a CPU, where the system tells: other work on the machine does not count.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

fn main() {
    let shape = Shape { layers: 126, hidden: 16384, intermediate: 53248, heads: 128, ..LLAMA_3_3_70B };
    let cases: [(&str, ModelCard, Fleet); 5] = [
        ("80 layers, 16 nodes, streamed", LLAMA_3_3_70B.card(), fleet(16, 4)),
        ("80 layers, 16 nodes, in memory", LLAMA_3_3_70B.card(), fleet(16, 14)),
        ("126 layers, 64 nodes, streamed", shape.card(), fleet(64, 6)),
        ("126 layers, 64 nodes, in memory", shape.card(), fleet(64, 14)),
        ("80 layers, 5 nodes, streamed", LLAMA_3_3_70B.card(), fleet(5, 12)),
    ];
    println!("{:<34} {:>9} {:>10} {:>10} {:>10} {:>7}", "case", "goal", "search", "token", "bound", "above");
    let only = std::env::args().nth(1);
    for (name, card, fleet) in cases.iter().filter(|(name, ..)| only.as_ref().is_none_or(|only| name.contains(only))) {
        for (what, goal) in [("sporadic", Goal::sporadic(card, 4096)), ("bursty 8", Goal::bursty(card, 4096, 8))] {
            let (start, cpu) = (Instant::now(), cpu_time());
            let planned = plan(card, fleet, &goal);
            let spent = match (cpu, cpu_time()) {
                (Some(before), Some(after)) => after - before,
                _ => start.elapsed(),
            };
            match planned {
                Ok(plan) => {
                    let outlook = plan.outlook.as_ref().expect("the search predicts");
                    let prediction = &outlook.prediction;
                    let above = prediction.time_per_token.seconds() / prediction.lower_bound.seconds() - 1.0;
                    println!(
                        "{name:<34} {what:>9} {:>7.1} ms {:>10} {:>10} {:>5.1} %  {} devices, {} segments, {} micro-batches, binds: {}",
                        spent.as_secs_f64() * 1e3,
                        prediction.time_per_token.to_string(),
                        prediction.lower_bound.to_string(),
                        above * 100.0,
                        plan.devices.len(),
                        plan.segments,
                        outlook.micro_batches,
                        prediction.binds,
                    );
                }
                Err(refusal) => println!("{name:<34} {what:>9} {:>7.1} ms  {refusal}", spent.as_secs_f64() * 1e3),
            }
        }
    }
}
