//! How much is simulated for one plan of a large fleet: the part of a search's time that every machine counts alike.

use crate::schedule::SIMULATED;
use lime_plan::testing::{Random, small_card};
use lime_plan::{BlockBytes, Bytes, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile};

use super::{Problem, effort, find};

/// A model of 70 B parameters in bf16.
fn card() -> ModelCard {
    let (attention, mlp, head) = (Bytes(302_000_000), Bytes(1_409_000_000), Bytes(2_101_000_000));
    let blocks = BlockBytes {
        embedding: head,
        attention: vec![attention; 80],
        mlp: vec![mlp; 80],
        head,
        head_beside_embedding: head,
    };
    let card = small_card(&mut Random::new(1), 80);
    let card = ModelCard { hidden: 8192, intermediate: 28672, heads: 64, kv_heads: 8, head_dim: 128, ..card };
    ModelCard { vocabulary: 128_256, context: 4096, tied: false, blocks, ..card }
}

/// Sixteen unlike nodes that must stream.
fn fleet() -> Fleet {
    let node = |index: u64| NodeProfile {
        name: format!("node-{index:02}"),
        memory: Bytes::gib(4 + (index * 7) % 9),
        overhead: Bytes::mib(64),
        memory_bandwidth: 40_000_000_000 + (index * 13 % 7) * 20_000_000_000,
        compact_bandwidth: None,
        throughput: 500_000_000_000 + (index * 5 % 4) * 500_000_000_000,
        disk_bandwidth: Some(500_000_000 + (index * 11 % 5) * 500_000_000),
        block_latency: Nanos(20_000),
        formats: Default::default(),
    };
    Fleet::uniform((0..16).map(node).collect(), Link { bandwidth: 25_000_000, latency: Nanos(400_000) })
}

/// The wish itself, all numbers of devices together and what has room for the longest requests are searched with the work of one search
/// each; what the last finds is evaluated with that of four at most, most of it cut short.
#[test]
fn a_large_fleet_is_searched_with_the_work_of_a_few_searches() {
    let (card, fleet) = (card(), fleet());
    for goal in [Goal::sporadic(&card, 4096), Goal::bursty(&card, 4096, 8)] {
        let problem = Problem::new(&card, &fleet, &goal);
        let before = SIMULATED.get();
        assert!(find(&problem).is_some());
        let searches = (SIMULATED.get() - before) as f64 / effort(&problem).left() as f64;
        println!("{searches:.2} searches");
        assert!(searches < 4.0, "as much as {searches:.1} searches");
    }
}
