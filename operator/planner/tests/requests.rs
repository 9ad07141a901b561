//! Plans for whole requests: prompts count beside tokens, and wishes before both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::path::Path;

use lime_plan::{Fleet, FleetFile, Goal, ModelCard, Nanos, Plan, PlanDraft};
use lime_planner::{RequestTime, plan, request_time};

mod support;

use support::{LLAMA_3_3_70B, QWEN3_32B};

fn fleet(name: &str) -> Fleet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/fleets").join(format!("{name}.yaml"));
    let file: FleetFile = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file.check().unwrap()
}

fn goal(card: &ModelCard, prompt: u32, answer: u32) -> Goal {
    Goal { typical_prompt: Some(prompt), typical_answer: Some(answer), ..Goal::sporadic(card, 4096) }
}

/// What requests of the goal take on a plan for it, which is what the plan says.
fn planned(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> (Plan, RequestTime) {
    let plan = plan(card, fleet, goal).unwrap();
    let time = request_time(&plan, fleet, goal.prompt(), goal.answer()).unwrap();
    let prediction = &plan.outlook.as_ref().unwrap().prediction;
    assert_eq!((prediction.prompt_tokens, prediction.answer_tokens), (goal.prompt(), goal.answer()));
    assert_eq!(prediction.request_time, time.request);
    assert_eq!((prediction.time_per_token, prediction.time_to_first_token), (time.time_per_token, time.first_token));
    (plan, time)
}

/// Four Jetsons on 100 Mbit/s once took 156 s for a prompt of 1,024 tokens, in twelve rounds of hops for each chunk.
#[test]
fn a_long_prompt_passes_in_time_on_slow_links() {
    let (card, fleet) = (LLAMA_3_3_70B.card(), fleet("jetsons-four"));
    let (_, for_tokens) = planned(&card, &fleet, &goal(&card, 1024, 1 << 24));
    let (plan, time) = planned(&card, &fleet, &goal(&card, 1024, 50));
    println!(
        "{} to the first token, {} a token; at best {}",
        time.first_token, time.time_per_token, for_tokens.time_per_token
    );
    assert!(time.first_token <= Nanos(45_000_000_000), "{}", time.first_token);
    assert!(time.time_per_token.seconds() <= 1.15 * for_tokens.time_per_token.seconds(), "{}", time.time_per_token);
    assert!(plan.chunks_travel_together() && plan.streams() && plan.segments > 1);
    // A gateway that sends them one by one takes as long as that takes.
    let mut alone = PlanDraft::clone(&plan);
    alone.outlook.as_mut().unwrap().prompt_passes = 1;
    let alone = Plan::try_from(alone).unwrap();
    assert_eq!(alone.prompt_passes(), Some(1));
    assert!(request_time(&alone, &fleet, 1024, 50).unwrap().first_token > time.first_token);
}

/// Each kind of request takes no longer on the plan for it than on the plan for another, but for what counts as alike.
#[test]
fn each_kind_of_request_has_its_plan() {
    let (card, fleet) = (QWEN3_32B.card(), fleet("jetsons-three"));
    let kinds = [(512, 256), (2048, 64), (64, 512)];
    let plans = kinds.map(|(prompt, answer)| planned(&card, &fleet, &goal(&card, prompt, answer)));
    for ((prompt, answer), (_, own)) in kinds.into_iter().zip(&plans) {
        for (other, _) in &plans {
            let there = request_time(other, &fleet, prompt, answer).unwrap().request.seconds();
            // A heuristic searches fleets of this size: two per cent are within its grain.
            assert!(own.request.seconds() <= 1.02 * there, "{prompt} + {answer}: {} for {there} s", own.request);
        }
    }
}

#[test]
fn wishes_for_times_go_before_the_time_of_requests() {
    let (card, fleet) = (QWEN3_32B.card(), fleet("jetsons-three"));
    let free = goal(&card, 2048, 64);
    let (plan, time) = planned(&card, &fleet, &free);
    assert!(plan.outlook.as_ref().unwrap().missed.is_empty());
    let (_, fast) = planned(&card, &fleet, &goal(&card, 2048, 1 << 24));
    // A token in between what is possible and what is best for such requests.
    assert!(fast.time_per_token < time.time_per_token, "the case says nothing");
    let between = Nanos((fast.time_per_token.0 + time.time_per_token.0) / 2);
    let (met, wished) = planned(&card, &fleet, &Goal { wished_time_per_token: Some(between), ..free.clone() });
    assert!(wished.time_per_token <= between, "{} for {between}", wished.time_per_token);
    assert!(met.outlook.as_ref().unwrap().missed.is_empty());
    // What nobody can meet is told, and requests are served as well as without the wish.
    let (missing, served) = planned(&card, &fleet, &Goal { wished_time_per_token: Some(Nanos(1)), ..free });
    assert_eq!(missing.outlook.as_ref().unwrap().missed.len(), 1);
    assert_eq!(served.request, time.request);
}
