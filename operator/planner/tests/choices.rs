//! Plans that a person would choose: about as fast is decided by the longest context, and no stricter wish gives a better plan.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use lime_plan::{Bytes, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile, Offload, Plan};
use lime_planner::plan;

mod support;

use support::LLAMA_2_13B;

fn board(name: &str, memory: Bytes) -> NodeProfile {
    NodeProfile {
        name: name.into(),
        memory,
        overhead: Bytes::mib(64),
        memory_bandwidth: 68_000_000_000,
        compact_bandwidth: None,
        throughput: 1_000_000_000_000,
        disk_bandwidth: Some(400_000_000),
        block_latency: Nanos(20_000),
        formats: Default::default(),
    }
}

fn fleet(boards: impl IntoIterator<Item = NodeProfile>) -> Fleet {
    Fleet::uniform(boards.into_iter().collect(), Link { bandwidth: 125_000_000, latency: Nanos(200_000) })
}

/// Time per token in the expected case and at the longest context.
fn times(plan: &Plan) -> (u64, u64) {
    let prediction = &plan.outlook.as_ref().unwrap().prediction;
    (prediction.time_per_token.0, prediction.growth.last().unwrap().time_per_token.0)
}

/// As fast as one per cent, and then no slower at the longest context.
fn no_worse(free: (u64, u64), stricter: (u64, u64), what: &str) {
    assert!(free.0 <= stricter.0 + stricter.0 / 100, "{what}: {stricter:?} against {free:?}");
    let about_as_fast = stricter.0 <= free.0 + free.0 / 200;
    assert!(!about_as_fast || free.1 <= stricter.1 + stricter.1 / 100, "{what}: {stricter:?} against {free:?}");
}

fn stricter(goal: &Goal, nodes: u32) -> Vec<Goal> {
    let least = (2..=nodes).map(|least_devices| Goal { least_devices, ..goal.clone() });
    let segments = [1, 2, 4].map(|segments| Goal { segments: Some(segments), ..goal.clone() });
    least.chain(segments).chain([Goal { offload: Offload::Never, ..goal.clone() }]).collect()
}

fn check(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Plan {
    let free = plan(card, fleet, goal).unwrap();
    for wish in stricter(goal, fleet.nodes().len() as u32) {
        let Ok(found) = plan(card, fleet, &wish) else { continue };
        no_worse(
            times(&free),
            times(&found),
            &format!("{:?} {:?} {:?}", wish.least_devices, wish.segments, wish.offload),
        );
    }
    free
}

#[test]
fn two_boards_that_stream_at_the_longest_context_give_way_to_three_that_do_not() {
    let card = LLAMA_2_13B.card();
    // Two of them hold the model and half of the context, and nothing more.
    let fleet = fleet([
        board("large-a", Bytes::mib(13_700)),
        board("large-b", Bytes::mib(13_700)),
        board("small", Bytes::gib(8)),
    ]);
    let two = plan(&card, &fleet, &Goal { most_devices: Some(2), ..Goal::sporadic(&card, 4096) }).unwrap();
    let free = check(&card, &fleet, &Goal::sporadic(&card, 4096));
    let ((time, longest), (time_of_two, longest_of_two)) = (times(&free), times(&two));
    println!(
        "three: {} and {}; two: {} and {}",
        Nanos(time),
        Nanos(longest),
        Nanos(time_of_two),
        Nanos(longest_of_two)
    );
    assert!(time_of_two.abs_diff(time) < time / 100, "both are about as fast in the expected case");
    assert!(longest_of_two > 2 * longest, "two stream at the longest context");
    assert_eq!(free.devices.len(), 3);
}

#[test]
fn equal_boards_take_part_where_that_helps_and_are_left_out_in_true_words() {
    let card = LLAMA_2_13B.card();
    for mib in [7_600, 9_000, 14_000] {
        let fleet = fleet((0..4).map(|index| board(&format!("board-{index}"), Bytes::mib(mib))));
        let free = check(&card, &fleet, &Goal::sporadic(&card, 4096));
        let outlook = free.outlook.as_ref().unwrap();
        assert_eq!(outlook.rejected.len() + free.devices.len(), 4);
        for node in &outlook.rejected {
            println!("{mib} MiB, {}: {}", node.name, node.reason);
            let (with, without) = node.reason.split_once(" instead of ").unwrap_or((&node.reason, ""));
            assert!(without.is_empty() || !with.ends_with(without), "a difference that reads as none: {}", node.reason);
            assert!(!node.reason.contains("at least"), "only what was simulated is said: {}", node.reason);
        }
    }
}
