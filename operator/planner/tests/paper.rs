//! What the paper's comparison in docs/planning.md says of our plans, as bounds: a search that changes finds at least that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::path::Path;

use lime_plan::{Fleet, FleetFile, Goal, Link, ModelCard};
use lime_planner::plan;

mod support;

use support::{LLAMA_2_13B, LLAMA_3_3_70B, QWEN3_32B};

const CONTEXT: u32 = 2048;

fn fleet(name: &str, megabits: u64) -> Fleet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/fleets").join(format!("{name}.yaml"));
    let file: FleetFile = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let fleet = file.check().unwrap();
    let link = |from, to| Link { bandwidth: megabits * 125_000, ..fleet.link(from, to) };
    Fleet::new(fleet.nodes().to_vec(), link)
}

/// Plans for tokens alone, as the others' are, take at most so many hundredths of a second a pass at 100 and 200 Mbit/s: with one request,
/// and with `requests` at once.
fn at_most(card: &ModelCard, name: &str, requests: u32, sporadic: [u64; 2], bursty: [u64; 2]) {
    for (megabits, sporadic, bursty) in [(100, sporadic[0], bursty[0]), (200, sporadic[1], bursty[1])] {
        let fleet = fleet(name, megabits);
        let goals = [Goal::sporadic(card, CONTEXT), Goal::bursty(card, CONTEXT, requests)];
        for (goal, most) in goals.into_iter().zip([sporadic, bursty]) {
            let goal = Goal { typical_answer: Some(u32::MAX), ..goal };
            let plan = plan(card, &fleet, &goal).unwrap();
            let time = plan.outlook.as_ref().unwrap().prediction.time_per_token;
            println!("{} on {name}, {megabits} Mbit/s, {:?}: {time}", card.name, goal.objective);
            // As the table rounds.
            assert!(time.0 < most * 10_000_000 + 5_000_000, "{name}, {megabits} Mbit/s: {time} for {most} hundredths");
        }
    }
}

#[test]
fn four_jetsons() {
    at_most(&LLAMA_3_3_70B.card(), "jetsons-four", 4, [272, 272], [287, 277]);
}

#[test]
fn five_jetsons() {
    at_most(&LLAMA_3_3_70B.card(), "jetsons-five", 5, [110, 108], [120, 114]);
}

#[test]
fn three_jetsons() {
    at_most(&QWEN3_32B.card(), "jetsons-three", 3, [96, 97], [104, 104]);
}

#[test]
fn two_small_jetsons() {
    at_most(&LLAMA_2_13B.card(), "jetsons-small", 2, [35, 35], [36, 36]);
}
