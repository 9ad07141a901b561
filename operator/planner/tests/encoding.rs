//! When weights are kept compact.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use lime_plan::{BriefCard, Bytes, Encoding, Fleet, Goal, Inspection, Link, ModelCard, Nanos, NodeProfile, Offload};
use lime_planner::{Refusal, plan};
use support::{LLAMA_3_3_70B, compressible};

fn card() -> ModelCard {
    compressible(LLAMA_3_3_70B.card())
}

fn fleet(count: u64, gib: u64, compact_bandwidth: Option<u64>) -> Fleet {
    let node = |index: u64| NodeProfile {
        name: format!("node-{index}"),
        memory: Bytes::gib(gib),
        overhead: Bytes::mib(64),
        memory_bandwidth: 40_000_000_000,
        compact_bandwidth,
        throughput: 500_000_000_000,
        disk_bandwidth: Some(2_000_000_000),
        block_latency: Nanos(20_000),
        formats: Default::default(),
    };
    let link = Link { bandwidth: 125_000_000, latency: Nanos(500_000) };
    Fleet::uniform((0..count).map(node).collect(), link)
}

fn goal(card: &ModelCard) -> Goal {
    Goal::sporadic(card, 2048)
}

fn encoding(fleet: &Fleet, change: impl Fn(&mut Goal)) -> Encoding {
    let card = card();
    let mut goal = goal(&card);
    change(&mut goal);
    let found = plan(&card, fleet, &goal).unwrap();
    assert_eq!(found.model.compact, None, "a plan says what is, not what could be");
    if found.model.encoding == Encoding::Compact {
        assert_eq!(found.model, card.compacted().unwrap());
    }
    found.model.encoding
}

#[test]
fn compact_where_memory_is_short_and_every_node_can() {
    let short = fleet(4, 24, Some(28_000_000_000));
    assert_eq!(encoding(&short, |_| {}), Encoding::Compact);
    assert_eq!(encoding(&short, |goal| goal.encoding = Some(Encoding::Raw)), Encoding::Raw);
    assert_eq!(encoding(&fleet(4, 24, None), |_| {}), Encoding::Raw);
    assert_eq!(encoding(&fleet(4, 24, None), |goal| goal.encoding = Some(Encoding::Compact)), Encoding::Raw);
}

#[test]
fn raw_where_all_fits_and_compact_is_not_faster() {
    let roomy = fleet(4, 96, Some(28_000_000_000));
    assert_eq!(encoding(&roomy, |_| {}), Encoding::Raw);
    assert_eq!(encoding(&roomy, |goal| goal.encoding = Some(Encoding::Compact)), Encoding::Compact);
    let fast = fleet(4, 96, Some(40_000_000_000));
    assert_eq!(encoding(&fast, |_| {}), Encoding::Compact);
}

#[test]
fn what_fits_compact_alone_is_planned_and_not_refused() {
    let card = card();
    let goal = Goal { offload: Offload::Never, ..goal(&card) };
    // 132 GiB of weights, 94 of them compact.
    assert!(plan(&card, &fleet(4, 32, None), &goal).is_err());
    let found = plan(&card, &fleet(4, 32, Some(10_000_000_000)), &goal).unwrap();
    assert_eq!(found.model.encoding, Encoding::Compact);
}

#[test]
fn what_is_missing_is_said_of_the_smaller_form() {
    let card = card();
    let goal = Goal { offload: Offload::Never, ..goal(&card) };
    let missing = |compact| match plan(&card, &fleet(4, 20, compact), &goal) {
        Err(Refusal::Infeasible(shortage)) => shortage.missing,
        other => panic!("{other:?}"),
    };
    assert!(missing(Some(10_000_000_000)) < missing(None));
}

#[test]
fn the_brief_card_carries_both_sizes() {
    let card = card();
    let line = Inspection::Card(Box::new(BriefCard::new(&card, None))).to_line();
    assert!(line.len() < 4096, "a termination message holds 4096 bytes, the card took {}", line.len());
    let Inspection::Card(brief) = Inspection::from_line(&line).unwrap() else { panic!("{line}") };
    assert_eq!(brief.card().unwrap(), card);
}
