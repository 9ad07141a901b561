use lime_plan::testing::{DeviceBudget, PlanRequest, proportional};
use lime_plan::{
    Architecture, Arithmetic, BlockBytes, Bytes, Dtype, Fleet, Format, Goal, Link, ModelCard, Nanos, NodeProfile,
    ServingLimits,
};
use lime_planner::plan;

use super::*;

fn card() -> ModelCard {
    ModelCard {
        name: "bard".into(),
        architecture: Architecture::Llama,
        format: Format::Bf16,
        layers: 12,
        hidden: 128,
        intermediate: 352,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        vocabulary: 1024,
        context: 512,
        tied: true,
        parameters: 2_346_112,
        encoding: Default::default(),
        compact: None,
        features: Default::default(),
        blocks: BlockBytes {
            embedding: Bytes::kib(256),
            attention: vec![Bytes::kib(100); 12],
            mlp: vec![Bytes::kib(268); 12],
            head: Bytes::kib(260),
            head_beside_embedding: Bytes::kib(4),
        },
    }
}

#[test]
fn a_plan_reads_as_a_table() {
    let card = card();
    let device = |(name, kib): (&str, u64)| DeviceBudget { name: name.into(), memory: Bytes::kib(kib) };
    let devices = [("ada", 3584), ("bea", 4096), ("cora", 4505)].map(device);
    let serving = ServingLimits { max_context_tokens: 512, max_concurrent_requests: 3, prefill_chunk_tokens: 64 };
    let (arithmetic, residual, kv) = (Arithmetic::Exact, Dtype::F32, Dtype::F16);
    let request = PlanRequest { model: &card, devices: &devices, serving, segments: 2, arithmetic, residual, kv };
    let plan = proportional(&request).unwrap();
    let expected = "\
┌────────┬────────────┬─────────────┬─────────────────┬─────────┬──────────┬─────────────┬─────────┬─────────┐
│ device ┆ segment 1  ┆ segment 2   ┆ besides         ┆ weights ┆ KV cache ┆ activations ┆   total ┆  budget │
╞════════╪════════════╪═════════════╪═════════════════╪═════════╪══════════╪═════════════╪═════════╪═════════╡
│ ada    ┆ layers 0-1 ┆ layers 6    ┆ embedding, head ┆ 1.3 MiB ┆  1.1 MiB ┆   547.8 KiB ┆ 3.0 MiB ┆ 3.5 MiB │
│ bea    ┆ layers 2-3 ┆ layers 7-8  ┆ -               ┆ 1.4 MiB ┆  1.5 MiB ┆   535.8 KiB ┆ 3.5 MiB ┆ 4.0 MiB │
│ cora   ┆ layers 4-5 ┆ layers 9-11 ┆ -               ┆ 1.8 MiB ┆  1.9 MiB ┆   535.8 KiB ┆ 4.2 MiB ┆ 4.4 MiB │
└────────┴────────────┴─────────────┴─────────────────┴─────────┴──────────┴─────────────┴─────────┴─────────┘
bard: 4.6 MiB of weights in 12 layers of bf16, KV cache in f16; no device could hold it alone.";
    assert_eq!(plan_table(&plan, None), expected);
}

#[test]
fn a_card_reads_as_a_table() {
    let text = card_table(&card(), None);
    for words in [
        "2.35 M (2346112)",
        "4 (of 32)",
        "shares the embedding's matrix",
        "512 tokens",
        "llama",
        "for each token, in f16",
    ] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
}

/// A plan with everything that has a column, at the widths of screens.
#[test]
fn tables_fit_their_screens_and_their_columns_add_up() {
    let card = card();
    let node = |name: &str, kib: u64| NodeProfile {
        name: name.into(),
        memory: Bytes::kib(kib),
        overhead: Bytes::kib(100),
        memory_bandwidth: 5_000_000_000,
        compact_bandwidth: None,
        throughput: 20_000_000_000,
        disk_bandwidth: Some(200_000_000),
        block_latency: Nanos(1000),
        formats: Default::default(),
    };
    let link = Link { bandwidth: 12_500_000, latency: Nanos(1_000_000) };
    let fleet =
        Fleet::uniform(vec![node("ada", 3000), node("bea", 3500), node("a-board-with-a-long-name", 3200)], link);
    let found = plan(&card, &fleet, &Goal::sporadic(&card, 512)).unwrap();
    let compared = lime_planner::compare(&card, &fleet, &Goal::sporadic(&card, 512));
    let all = |width: Option<usize>| {
        let parts = [plan_table(&found, width), explanation(&found, &[], width), comparison_table(&compared, width)];
        parts.join("\n")
    };
    for width in [40, 60, 80, 120] {
        let text = all(Some(width));
        // Sentences below the tables are the terminal's to wrap.
        let of_tables = text.lines().filter(|line| line.starts_with(['┌', '│', '╞', '└', ' ']));
        for line in of_tables {
            assert!(line.chars().count() <= width, "{width}: {line}\n{text}");
        }
        for words in ["overhead", "waits for weights", "idle", "budget", "a-board-with-a-long-name", "EdgeShard"] {
            assert!(text.contains(words), "{words:?} is missing at {width}:\n{text}");
        }
    }
    let prediction = &found.outlook.as_ref().unwrap().prediction;
    let most = prediction.growth.last().unwrap();
    assert!(all(None).contains(&format!("{} at 512 tokens", most.time_per_token)), "{}", all(None));
    for device in &found.devices {
        let it = device.memory;
        assert_eq!(it.pinned + it.prefetch + it.kv + it.activations + it.overhead + it.lent, it.used());
    }
}
