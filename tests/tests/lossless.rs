//! The promise: the same prompt and seed give the same bits for every plan.

use anyhow::Result;
use lime_plan::{Dtype, ServingLimits, testing::cut_layers};
use lime_tests::{
    fixtures,
    ring::{Outcome, Sequence, Workers, card, drive, even_plan},
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 128, max_concurrent_requests: 8, prefill_chunk_tokens: 400 };

fn sequence(seed: u64, prompt: usize, draws: usize) -> Sequence {
    let token = |index: u64| 2 + (index.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 7) as u32 % 1000;
    let prompt = std::iter::once(0).chain((1..prompt as u64).map(token)).collect();
    Sequence { prompt, draws, temperature: 0.8, seed }
}

/// The sequence under test, then seven mates of unlike lengths that share its passes.
fn sequences() -> Vec<Sequence> {
    let lengths = [(23, 10), (3, 14), (40, 6), (1, 14), (17, 9), (31, 12), (8, 14), (26, 3)];
    lengths.iter().zip(1..).map(|(&(prompt, draws), seed)| sequence(seed, prompt, draws)).collect()
}

fn alone(outcomes: Vec<Outcome>) -> Outcome {
    outcomes.into_iter().next().unwrap_or_default()
}

/// 4 counts of workers x 4 of segments x 2 of threads x 3 chunks x 2 batches, against one worker that does it all at once.
async fn all_plans_agree(kv: Dtype) -> Result<()> {
    let model = fixtures::bard();
    let card = card(&model)?;
    let batch = sequences();
    let mut reference: Option<Outcome> = None;
    let mut compared = 0;
    for workers in [1, 2, 3, 5] {
        for threads in [1, 2] {
            let mut ring_workers = Workers::start(&model, workers, threads).await?;
            for segments in 1..=4 {
                let plan = even_plan(&card, workers, segments, SERVING, kv)?;
                assert_eq!(plan.devices.len(), workers, "every worker takes part");
                let mut ring = ring_workers.configure(&plan).await?;
                for chunk in [usize::MAX, 7, 1] {
                    for mates in [0, 7] {
                        let outcome = alone(drive(&mut ring, &batch[..=mates], chunk).await?);
                        let setting = format!(
                            "{workers} workers, {segments} segments, {threads} threads, chunks of {chunk}, {mates} mates"
                        );
                        let expected = reference.get_or_insert_with(|| outcome.clone());
                        assert_eq!(outcome.tokens, expected.tokens, "tokens differ: {setting}");
                        assert!(outcome.logits == expected.logits, "logits differ: {setting}");
                        assert_eq!(outcome.logits[0].len(), card.vocabulary as usize * 4, "logits are whole");
                        compared += 1;
                    }
                }
            }
            ring_workers.stop().await?;
        }
    }
    assert_eq!(compared, 4 * 4 * 2 * 3 * 2);
    Ok(())
}

/// Workers between which layers are cut, against one that has them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_inside_layers_give_the_same_bits() -> Result<()> {
    let model = fixtures::bard();
    let (card, kv, batch) = (card(&model)?, Dtype::Bf16.kv_entries(), sequences());
    let mut reference: Option<Outcome> = None;
    for (workers, segments) in [(1, 1), (2, 3), (3, 1), (5, 2)] {
        let mut ring_workers = Workers::start(&model, workers, 1).await?;
        let plan = cut_layers(&even_plan(&card, workers, segments, SERVING, kv)?);
        assert_eq!(plan.cuts_layers(), workers > 1);
        let mut ring = ring_workers.configure(&plan).await?;
        for (chunk, mates) in [(usize::MAX, 0), (7, 7), (1, 7)] {
            let outcome = alone(drive(&mut ring, &batch[..=mates], chunk).await?);
            let expected = reference.get_or_insert_with(|| outcome.clone());
            assert_eq!(outcome.tokens, expected.tokens, "{workers} workers, {segments} segments, {chunk} {mates}");
            assert!(outcome.logits == expected.logits, "{workers} workers, {segments} segments, {chunk} {mates}");
        }
        ring_workers.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_plan_gives_the_same_bits() -> Result<()> {
    all_plans_agree(Dtype::Bf16.kv_entries()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_plan_gives_the_same_bits_with_keys_and_values_in_bf16() -> Result<()> {
    all_plans_agree(Dtype::Bf16).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_plan_gives_the_same_bits_with_keys_and_values_in_f32() -> Result<()> {
    all_plans_agree(Dtype::F32).await
}
