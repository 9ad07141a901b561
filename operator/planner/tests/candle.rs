//! Plans with candle's arithmetic: every block and the longest requests have their memory from the beginning.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use lime_plan::{Arithmetic, Bytes, Encoding, Fleet, Format, Goal, Link, Nanos, NodeProfile, Offload, Residency};
use lime_planner::plan;
use support::LLAMA_3_3_70B;

fn fleet(gib: u64) -> Fleet {
    let node = |index: u64| NodeProfile {
        name: format!("node-{index}"),
        memory: Bytes::gib(gib),
        overhead: Bytes::mib(64),
        memory_bandwidth: 40_000_000_000,
        compact_bandwidth: Some(40_000_000_000),
        throughput: 500_000_000_000,
        disk_bandwidth: Some(2_000_000_000),
        block_latency: Nanos(20_000),
        formats: Default::default(),
    };
    let link = Link { bandwidth: 125_000_000, latency: Nanos(500_000) };
    Fleet::uniform((0..4).map(node).collect(), link)
}

#[test]
fn nothing_streams_and_nothing_gives_way() {
    let card = LLAMA_3_3_70B.card();
    let goal = Goal { arithmetic: Arithmetic::Candle, ..Goal::bursty(&card, 8192, 4) };
    let found = plan(&card, &fleet(40), &goal).unwrap();
    assert_eq!((found.arithmetic, found.model.encoding), (Arithmetic::Candle, Encoding::Raw));
    for device in &found.devices {
        assert!(device.blocks.iter().all(|placed| placed.residency == Residency::Pinned), "{}", device.name);
        assert!(device.steps.is_empty() && device.memory.prefetch == Bytes::ZERO, "{}", device.name);
        assert!(device.memory.used() <= device.memory.budget);
    }
    // Where memory is short exact arithmetic reads from disks, and nobody is told that candle's could.
    let short = fleet(24);
    let exact = Goal { arithmetic: Arithmetic::Exact, ..goal.clone() };
    let streams = |placed: &lime_plan::PlacedBlock| placed.residency == Residency::Streamed;
    let exact = plan(&card, &short, &exact).unwrap();
    assert!(exact.devices.iter().flat_map(|device| &device.blocks).any(streams));
    let refusal = plan(&card, &short, &goal).unwrap_err().to_string();
    assert!(!refusal.contains("disk"), "{refusal}");
}

#[test]
fn what_candle_cannot_do_is_refused_before_anything_is_planned() {
    let card = LLAMA_3_3_70B.card();
    let goal = Goal { arithmetic: Arithmetic::Candle, ..Goal::sporadic(&card, 2048) };
    let always = Goal { offload: Offload::Always, ..goal.clone() };
    let refused = plan(&card, &fleet(96), &always).unwrap_err().to_string();
    assert!(refused.contains("candle arithmetic") && refused.contains("Always"), "{refused}");
    let quantized = lime_plan::ModelCard { format: Format::Q8_0, ..card };
    let refused = plan(&quantized, &fleet(96), &goal).unwrap_err().to_string();
    assert!(refused.contains("candle arithmetic") && refused.contains("quantized"), "{refused}");
}
