//! The limits of belief hold for the solver too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use lime_plan::{BlockBytes, Bytes, Fleet, Goal, Limit, Link, Nanos, NodeProfile};
use lime_planner::plan;

mod support;

/// Whatever is believed can be planned or refused: no sum and no product on the way leaves its type.
#[test]
fn the_largest_model_and_wish_that_are_believed_break_no_arithmetic() {
    let most = |limit: Limit| u32::try_from(limit.most).unwrap();
    // Fewer layers of the same bytes in all: the solver's patience is not what is tried here.
    let layers = 64;
    let block = Bytes(Limit::WEIGHTS.most / (2 * u64::from(layers) + 3));
    let mut card = support::LLAMA_3_3_70B.card();
    card.layers = layers;
    (card.hidden, card.intermediate) = (most(Limit::HIDDEN), most(Limit::INTERMEDIATE));
    (card.heads, card.kv_heads, card.head_dim) = (most(Limit::HEADS), 1, most(Limit::HEAD_DIM));
    (card.vocabulary, card.context) = (most(Limit::VOCABULARY), most(Limit::MODEL_CONTEXT));
    card.blocks = BlockBytes {
        embedding: block,
        attention: vec![block; layers as usize],
        mlp: vec![block; layers as usize],
        head: block,
        head_beside_embedding: block,
    };
    let mut goal = Goal::bursty(&card, most(Limit::CONTEXT), 1 << 10);
    goal.serving.prefill_chunk_tokens = most(Limit::PREFILL_ROWS);
    let node = |name: &str, memory: u64| NodeProfile {
        name: name.into(),
        memory: Bytes(memory),
        overhead: Bytes::ZERO,
        memory_bandwidth: 1_000_000,
        compact_bandwidth: None,
        throughput: 1_000_000,
        disk_bandwidth: Some(10_000),
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    };
    let link = Link { bandwidth: 1000, latency: Nanos(60_000_000_000) };
    goal.check(&card).unwrap();
    let large = Fleet::uniform(vec![node("a", 1 << 56), node("b", 1 << 56), node("c", 1 << 56)], link);
    assert!(plan(&card, &large, &goal).is_ok());
    let small = Fleet::uniform(vec![node("a", 1 << 30), node("b", 1 << 30)], link);
    assert!(plan(&card, &small, &goal).is_err());
}
