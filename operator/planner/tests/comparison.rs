//! Fleets of the repository, timelines, comparisons and adaptation, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::path::Path;

use lime_plan::{Bytes, DeviceSteps, Fleet, FleetFile, Format, Goal, MemoryModel, Nanos, NodeProfile, Plan, Relief};
use lime_planner::{Activity, Strategy, adaptations, compare, plan, timeline};

mod support;

use support::{LLAMA_2_13B, QWEN3_32B};

fn fleets() -> Vec<(String, Fleet)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/fleets");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let file: FleetFile = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert!(file.nodes.iter().all(|node| node.source.is_some()), "{path:?}: figures without a source");
        (path.file_stem().unwrap().to_string_lossy().into_owned(), file.check().unwrap())
    };
    files.iter().map(read).collect()
}

fn fleet(name: &str) -> Fleet {
    fleets().into_iter().find(|(found, _)| found == name).unwrap().1
}

fn time(plan: &Plan) -> Nanos {
    plan.outlook.as_ref().unwrap().prediction.time_per_token
}

#[test]
fn every_fleet_of_the_repository_plans_or_explains() {
    let fleets = fleets();
    assert!(fleets.len() >= 7);
    for (name, fleet) in &fleets {
        let card = LLAMA_2_13B.card();
        match plan(&card, fleet, &Goal::sporadic(&card, 2048)) {
            Ok(plan) => assert!(!plan.devices.is_empty(), "{name}"),
            Err(refusal) => println!("{name}: {refusal}"),
        }
    }
}

/// Disks that bind are evened out by parts of layers; where all is in memory whole layers do. Whatever reads a plan back reads such
/// a one as well.
#[test]
fn layers_are_cut_where_that_pays() {
    let (card, three) = (QWEN3_32B.card(), fleet("jetsons-three"));
    let cut = plan(&card, &three, &Goal::sporadic(&card, 2048)).unwrap();
    assert!(cut.cuts_layers());
    assert!(time(&cut) < Nanos(1_000_000_000), "by whole layers it takes 1.06 s: {}", time(&cut));
    assert_eq!(cut.devices.iter().map(|device| device.attentions()).sum::<u32>(), card.layers);
    assert_eq!(adaptations(&cut, &three).unwrap().len(), cut.devices.len());
    let (card, small) = (LLAMA_2_13B.card(), fleet("jetsons-small"));
    let whole = plan(&card, &small, &Goal::sporadic(&card, 2048)).unwrap();
    assert!(!whole.cuts_layers());
}

#[test]
fn a_timeline_is_one_pass_long_and_draws() {
    let (card, fleet) = (QWEN3_32B.card(), fleet("jetsons-three"));
    let found = plan(&card, &fleet, &Goal::sporadic(&card, 2048)).unwrap();
    let drawn = timeline(&found, &fleet).unwrap();
    let slack = time(&found).0 / 20;
    assert!(drawn.period.0.abs_diff(time(&found).0) <= slack, "{} against {}", drawn.period, time(&found));
    assert!(
        drawn.lanes.iter().all(|lane| lane.spans.iter().all(|span| span.start < span.end && span.end <= drawn.period))
    );
    assert!(drawn.lanes.iter().any(|lane| lane.spans.iter().any(|span| span.activity == Activity::Load)));
    let svg = drawn.to_svg();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
}

#[test]
fn every_strategy_answers_and_streaming_beats_loading_on_demand() {
    let (card, fleet) = (QWEN3_32B.card(), fleet("jetsons-three"));
    let compared = compare(&card, &fleet, &Goal::sporadic(&card, 2048));
    assert_eq!(compared.iter().map(|one| one.strategy).collect::<Vec<_>>(), Strategy::ALL);
    let of = |strategy: Strategy| compared.iter().find(|one| one.strategy == strategy).unwrap().time_per_token.unwrap();
    assert!(of(Strategy::Lime) < of(Strategy::LayerPipeline));
    assert!(of(Strategy::LayerPipeline) < of(Strategy::SingleNode));
}

/// A layer pipeline without loads is one of our own layouts, so it can never be faster than our plan.
#[test]
fn nothing_in_memory_beats_the_plan() {
    let (card, fleet) = (LLAMA_2_13B.card(), fleet("jetsons-small"));
    for goal in [Goal::sporadic(&card, 2048), Goal::bursty(&card, 2048, 2)] {
        let compared = compare(&card, &fleet, &goal);
        let (ours, theirs) = (compared[0].time_per_token.unwrap(), compared[1].time_per_token.unwrap());
        assert!(ours.0 <= theirs.0 + theirs.0 / 200, "{ours} against {theirs}");
    }
}

#[test]
fn a_growing_cache_turns_blocks_into_streamed_ones_step_by_step() {
    let (card, fleet) = (QWEN3_32B.card(), fleet("jetsons-three"));
    let found = plan(&card, &fleet, &Goal::sporadic(&card, 2048)).unwrap();
    let adaptations = adaptations(&found, &fleet).unwrap();
    assert_eq!(adaptations.len(), found.devices.len());
    for (adaptation, device) in adaptations.iter().zip(&found.devices) {
        assert!(!adaptation.steps.is_empty(), "{}", device.name);
        assert!(adaptation.steps[0].above >= device.memory.kv);
        for pair in adaptation.steps.windows(2) {
            assert_eq!(pair[1].above, pair[0].above + pair[0].frees);
            assert!(matches!(pair[0].relief, Relief::Stream(_)), "only the last step hands pages over");
        }
        let first = adaptation.steps[0].above;
        let slack = Bytes(first.0 / 4);
        assert_eq!(adaptation.in_force(first, 0, slack), 0);
        assert_eq!(adaptation.in_force(first + Bytes(1), 0, slack), 1);
        assert_eq!(adaptation.in_force(first, 1, slack), 1, "not back at once");
        assert_eq!(adaptation.in_force(first.saturating_sub(slack), 1, slack), 0);
    }
}

#[test]
fn room_that_long_requests_need_later_holds_blocks_until_then() {
    let (card, fleet) = (QWEN3_32B.card(), fleet("jetsons-three"));
    let mut reserving = Goal::sporadic(&card, 16_384);
    reserving.typical_context = Some(reserving.serving.max_context_tokens);
    let expecting = Goal { typical_context: Some(1024), ..reserving.clone() };
    let (before, after) = (plan(&card, &fleet, &reserving).unwrap(), plan(&card, &fleet, &expecting).unwrap());
    // Both as they are with a short context: one has kept the room, the other uses it.
    let pinned = |plan: &Plan| plan.devices.iter().map(|device| device.memory.pinned).sum::<Bytes>();
    assert!(pinned(&after) > pinned(&before), "{} against {}", pinned(&after), pinned(&before));
    let time = |plan: &Plan| plan.outlook.as_ref().unwrap().prediction.time_per_token;
    assert!(time(&after) < time(&before), "{} against {}", time(&after), time(&before));
    for device in &after.devices {
        let steps = DeviceSteps::of(&after, device).unwrap();
        let longest = MemoryModel::of(&after).kv(device.attentions());
        assert!(device.memory.kv < longest && steps.most() >= longest, "{}", device.name);
        let level = steps.level(longest, 0, Bytes::ZERO);
        assert!(level > 0 && level <= steps.stream_steps().len());
    }
    // All that fits from the beginning stays as it was.
    let roomy = fleet.map_nodes(|node| NodeProfile { memory: Bytes::gib(96), ..node.clone() });
    let roomy = plan(&card, &roomy, &expecting).unwrap();
    let model = MemoryModel::of(&roomy);
    for device in &roomy.devices {
        assert!(device.steps.is_empty() && device.memory.kv == model.kv(device.attentions()));
    }
}

#[test]
fn a_refusal_suggests_the_precision_that_fits() {
    let card = LLAMA_2_13B.card();
    let small = fleet("jetsons-small").map_nodes(|node| lime_plan::NodeProfile {
        disk_bandwidth: None,
        memory: Bytes::gib(9),
        ..node.clone()
    });
    let mut other = support::Shape { name: "Llama-2-13B, half as large", ..LLAMA_2_13B }.card();
    for bytes in other.blocks.attention.iter_mut().chain(&mut other.blocks.mlp) {
        *bytes = Bytes(bytes.0 / 2);
    }
    other.format = Format::F16;
    let refusal = lime_planner::plan_or_suggest(&card, &small, &Goal::sporadic(&card, 2048), &[other]).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("half as large") && text.contains("more on"), "{text}");
}
