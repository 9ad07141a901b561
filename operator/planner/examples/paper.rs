//! The paper's comparison, predicted: `cargo run --release -p lime-planner --example paper [-- FOLDER]`.
//! Prints the tables of docs/planning.md; with a folder, writes a timeline of each strategy there.

use std::path::Path;

use lime_plan::{Encoding, Fleet, FleetFile, Format, Goal, Link, ModelCard, NodeProfile};
use lime_planner::{Comparison, Strategy, compare, plan};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{COMPACT_PERCENT, LLAMA_2_13B, LLAMA_3_3_70B, QWEN3_32B, compressible};

const CONTEXT: u32 = 2048;

fn read_fleet(name: &str) -> Fleet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/fleets").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).expect("the fleet is in the repository");
    let file: FleetFile = serde_saphyr::from_str(&text).expect("the fleet is YAML");
    file.check().expect("the fleet is sound")
}

fn at(fleet: &Fleet, megabits: u64) -> Fleet {
    let nodes = fleet.nodes().to_vec();
    Fleet::new(nodes, |from, to| Link { bandwidth: megabits * 125_000, ..fleet.link(from, to) })
}

/// Time per token: seconds, three digits.
fn shown(comparison: &Comparison) -> String {
    comparison.time_per_token.map_or("-".to_owned(), |time| format!("{:.2}", time.seconds()))
}

fn main() {
    let folder = std::env::args().nth(1);
    let cases: [(ModelCard, &str, u32); 4] = [
        (LLAMA_3_3_70B.card(), "jetsons-four", 4),
        (LLAMA_3_3_70B.card(), "jetsons-five", 5),
        (QWEN3_32B.card(), "jetsons-three", 3),
        (LLAMA_2_13B.card(), "jetsons-small", 2),
    ];
    for (card, name, requests) in &cases {
        let fleet = read_fleet(name);
        println!("\n### {} on `{name}` ({:.1} GB of weights)\n", card.name, card.weight_bytes().0 as f64 / 1e9);
        println!("| link | requests | {} | best other / LIME |", Strategy::ALL.map(Strategy::name).join(" | "));
        println!("|---|---|{}", "---:|".repeat(Strategy::ALL.len() + 1));
        let mut reasons = Vec::new();
        for megabits in [100, 200] {
            for (what, goal) in
                [("sporadic", Goal::sporadic(card, CONTEXT)), ("bursty", Goal::bursty(card, CONTEXT, *requests))]
                    .map(|(what, goal)| (what, for_tokens(goal)))
            {
                let fleet = at(&fleet, megabits);
                let compared = compare(card, &fleet, &goal);
                let ours = compared[0].time_per_token;
                let best = compared[1..].iter().filter_map(|comparison| comparison.time_per_token).min();
                let ratio = ours
                    .zip(best)
                    .map_or("-".to_owned(), |(ours, best)| format!("{:.2}x", best.seconds() / ours.seconds()));
                let times: Vec<String> = compared.iter().map(shown).collect();
                let load = if what == "bursty" { format!("{requests} at once") } else { "one".to_owned() };
                println!("| {megabits} Mbit/s | {load} | {} | {ratio} |", times.join(" | "));
                if megabits == 100 {
                    reasons.push((what, compared.clone()));
                }
                if let (Some(folder), 100) = (&folder, megabits) {
                    write_timelines(Path::new(folder), &format!("{name}-{what}"), &compared);
                }
            }
        }
        for (what, compared) in reasons {
            println!("\nWhy, {what} at 100 Mbit/s:\n");
            for comparison in compared {
                println!("- {}: {}", comparison.strategy.name(), comparison.because);
            }
        }
        let goal = for_tokens(Goal::sporadic(card, CONTEXT));
        if let Ok(plan) = plan(card, &at(&fleet, 100), &goal) {
            describe(&plan);
        }
    }
    compact(&cases);
}

/// What compact weights gain LIME, for models in bf16. Assumed: they are as compressible as trained weights in bf16 have been wherever
/// they were looked at, and a node computes with as many of them a second as raw ones.
fn compact(cases: &[(ModelCard, &str, u32)]) {
    println!("\n### Compact weights\n");
    println!(
        "| model, fleet | link | sporadic, raw | compact | bursty, raw | compact |\n|---|---|---:|---:|---:|---:|"
    );
    for (card, name, requests) in cases.iter().filter(|(card, ..)| card.format == Format::Bf16) {
        let card = compressible(card.clone());
        let able = |node: &NodeProfile| {
            let compact_bandwidth = Some(node.memory_bandwidth / 100 * COMPACT_PERCENT);
            NodeProfile { compact_bandwidth, ..node.clone() }
        };
        let fleet = read_fleet(name).map_nodes(able);
        for megabits in [100, 200] {
            let fleet = at(&fleet, megabits);
            let goals = [Goal::sporadic(&card, CONTEXT), Goal::bursty(&card, CONTEXT, *requests)].map(for_tokens);
            let forms = [Encoding::Raw, Encoding::Compact];
            let times = goals.iter().flat_map(|goal| forms.map(|form| seconds(&card, &fleet, goal, form)));
            let times: Vec<String> = times.collect();
            println!("| {} on `{name}` | {megabits} Mbit/s | {} |", card.name, times.join(" | "));
        }
    }
}

/// Time per pass in one form of the model.
fn seconds(card: &ModelCard, fleet: &Fleet, goal: &Goal, form: Encoding) -> String {
    let goal = Goal { encoding: Some(form), ..goal.clone() };
    let outlook = plan(card, fleet, &goal).ok().and_then(|plan| plan.into_draft().outlook);
    outlook.map_or("-".to_owned(), |outlook| format!("{:.2}", outlook.prediction.time_per_token.seconds()))
}

/// What is compared is the time of a pass: plans are made for that alone, as the others' are.
fn for_tokens(goal: Goal) -> Goal {
    Goal { typical_answer: Some(u32::MAX), ..goal }
}

fn describe(plan: &lime_plan::Plan) {
    let prediction = plan.outlook.as_ref().map(|outlook| &outlook.prediction);
    let Some(prediction) = prediction else { return };
    println!("\nLIME's plan, sporadic at 100 Mbit/s: {} segments.\n", plan.segments);
    println!("| device | layers | pinned | buffer | read per token | compute | disk | link | waits |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (device, share) in plan.devices.iter().zip(&prediction.devices) {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            device.name,
            halves(device.all_blocks().count()),
            device.memory.pinned,
            device.memory.prefetch,
            share.streamed,
            share.compute,
            share.disk,
            share.link,
            share.stall
        );
    }
}

/// Layers, of whose attention and MLP each counts a half.
fn halves(blocks: usize) -> String {
    format!("{}{}", blocks / 2, if blocks % 2 == 1 { "½" } else { "" })
}

fn write_timelines(folder: &Path, prefix: &str, compared: &[Comparison]) {
    for comparison in compared {
        let Some(timeline) = &comparison.timeline else { continue };
        let strategy = format!("{:?}", comparison.strategy).to_lowercase();
        let path = folder.join(format!("{prefix}-{strategy}.svg"));
        std::fs::write(&path, timeline.to_svg()).expect("the folder can be written");
    }
}
