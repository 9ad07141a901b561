//! What whole requests take on the fleets of the repository, under plans for the time per token alone and under plans
//! for requests:
//! `cargo run --release -p lime-planner --example requests`. Prints the table of docs/planning.md.

use std::path::Path;

use lime_plan::{Fleet, FleetFile, Goal, ModelCard, Plan, PlanDraft};
use lime_planner::{RequestTime, plan, request_time};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{LLAMA_2_13B, LLAMA_3_3_70B, QWEN3_32B};

/// Prompt and answer.
const REQUESTS: [(u32, u32); 3] = [(512, 256), (2048, 64), (64, 512)];

const CONTEXT: u32 = 4096;

fn read_fleet(name: &str) -> Fleet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/fleets").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).expect("the fleet is in the repository");
    let file: FleetFile = serde_saphyr::from_str(&text).expect("the fleet is YAML");
    file.check().expect("the fleet is sound")
}

/// As plans were made before: for the least time per token, with chunks of 128 rows.
fn for_tokens(card: &ModelCard) -> Goal {
    Goal { typical_answer: Some(u32::MAX), ..Goal::sporadic(card, CONTEXT) }
}

/// The plan as it was followed before: each chunk of a prompt waits for the one before where blocks stream in several
/// visits.
fn alone(plan: Plan) -> Plan {
    let mut draft = PlanDraft::clone(&plan);
    if let Some(outlook) = &mut draft.outlook {
        outlook.prompt_passes = 1;
    }
    draft.try_into().expect("what is predicted makes no plan unsound")
}

fn for_requests(card: &ModelCard, (prompt, answer): (u32, u32)) -> Goal {
    Goal { typical_prompt: Some(prompt), typical_answer: Some(answer), ..Goal::sporadic(card, CONTEXT) }
}

fn shown(plan: &Plan, time: RequestTime) -> String {
    format!("{} | {} | {} | {:.0} s", plan.segments, time.time_per_token, time.first_token, time.request.seconds())
}

fn main() {
    let cases: [(ModelCard, &str); 7] = [
        (LLAMA_3_3_70B.card(), "jetsons-four"),
        (LLAMA_3_3_70B.card(), "jetsons-five"),
        (QWEN3_32B.card(), "jetsons-three"),
        (LLAMA_2_13B.card(), "jetsons-small"),
        (QWEN3_32B.card(), "n100-two"),
        (LLAMA_2_13B.card(), "raspberry-pi-5-four"),
        (LLAMA_3_3_70B.card(), "thor-and-orin"),
    ];
    println!(
        "| model, fleet | prompt + answer | segments, before | per token | first token | request | segments, now | per token | \
         first token | request | before / now |"
    );
    println!("|---|---|{}", "---:|".repeat(9));
    for (card, name) in &cases {
        let fleet = read_fleet(name);
        let old = alone(plan(card, &fleet, &for_tokens(card)).expect("the fleet holds the model"));
        for request in REQUESTS.into_iter().chain((*name == "jetsons-four").then_some((1024, 50))) {
            let new = plan(card, &fleet, &for_requests(card, request)).expect("the fleet holds the model");
            let on = |plan: &Plan| request_time(plan, &fleet, request.0, request.1).expect("the plan is of this fleet");
            let (before, after) = (on(&old), on(&new));
            println!(
                "| {} on `{name}` | {} + {} | {} | {} | {:.2}x |",
                card.name,
                request.0,
                request.1,
                shown(&old, before),
                shown(&new, after),
                before.request.seconds() / after.request.seconds(),
            );
        }
    }
}
