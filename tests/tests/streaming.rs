//! Rings whose workers stream weights from their stores: the same bits as rings that keep all of them.

use std::path::Path;

use anyhow::Result;
use lime_model::{BlockFiles as _, BlockLayout, ModelFolder};
use lime_plan::{Block, Dtype, LayerIndex, Plan, PlanDraft, ServingLimits};
use lime_ring::{
    RingDriver,
    proto::{Rows, Sampling, Token},
};
use lime_store::{Source, Store};
use lime_tests::{
    fixtures,
    ring::{Sequence, Workers, card, drive, even_plan, streamed},
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 128, max_concurrent_requests: 3, prefill_chunk_tokens: 64 };

fn sequences() -> Vec<Sequence> {
    let sequence = |(seed, prompt): (u64, u64)| Sequence {
        prompt: (0..prompt).map(|index| 2 + (index * 131 + seed * 97) as u32 % 1000).collect(),
        draws: 8,
        temperature: 0.7,
        seed,
    };
    [(1, 20), (2, 5), (3, 33)].map(sequence).into()
}

/// Flips a bit in the middle of a raw block's file.
fn damage(store: &Path, model: &Path, block: Block) -> Result<()> {
    let stored = Store::open(store)?.model(&Source::Folder(model.to_owned()))?;
    let path = stored.locate(block, &BlockLayout::of(ModelFolder::open(model)?.config(), block))?.path;
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(std::fs::write(&path, bytes)?)
}

/// A block that streams is compared with its digest whenever it comes: the pass fails, and all that is damaged is made again at once for the
/// next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_block_is_made_again_when_it_streams() -> Result<()> {
    let (model, dir) = (fixtures::bard(), tempfile::tempdir()?);
    let plan =
        streamed(even_plan(&card(&model)?, 1, 1, SERVING, Dtype::Bf16)?, |block| matches!(block, Block::Mlp(_)), 0.0)?;
    let mut workers = Workers::start_with_store(&model, Some(dir.path()), 1, 1).await?;
    let mut ring = workers.configure(&plan).await?;
    let expected = drive(&mut ring, &sequences(), 64).await?;
    workers.stop().await?;
    for victim in [1, 3].map(|layer| Block::Mlp(LayerIndex(layer))) {
        damage(dir.path(), &model, victim)?;
    }
    let mut workers = Workers::start_with_store(&model, Some(dir.path()), 1, 1).await?;
    let mut ring = workers.configure(&plan).await?;
    let failed = drive(&mut ring, &sequences(), 64).await.unwrap_err().to_string();
    assert!(failed.contains("mlp(1)") && failed.contains("a bit has flipped"), "{failed}");
    assert!(drive(&mut ring, &sequences(), 64).await? == expected);
    workers.stop().await
}

/// A block that is kept is read when the plan is taken up: what is wrong with it then is put right by its worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_block_is_made_again_when_it_is_loaded() -> Result<()> {
    let (model, dir) = (fixtures::bard(), tempfile::tempdir()?);
    let mut workers = Workers::start_with_store(&model, Some(dir.path()), 1, 1).await?;
    let kept = Block::Attention(LayerIndex(1));
    let plan =
        streamed(even_plan(&card(&model)?, 1, 1, SERVING, Dtype::Bf16)?, |block| matches!(block, Block::Mlp(_)), 0.0)?;
    let mut ring = workers.configure(&plan).await?;
    let expected = drive(&mut ring, &sequences(), 64).await?;
    workers.stop().await?;

    damage(dir.path(), &model, kept)?;
    let mut workers = Workers::start_with_store(&model, Some(dir.path()), 1, 1).await?;
    let mut ring = workers.configure(&plan).await?;
    assert!(drive(&mut ring, &sequences(), 64).await? == expected);
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streaming_plans_give_the_same_bits() -> Result<()> {
    let (model, store) = (fixtures::bard(), tempfile::tempdir()?);
    let card = card(&model)?;
    let batch = sequences();
    let mut reference = None;
    for (devices, segments) in [(1, 1), (1, 4), (2, 2), (3, 1)] {
        let mut workers = Workers::start_with_store(&model, Some(store.path()), devices, 1).await?;
        let pinned = even_plan(&card, devices, segments, SERVING, Dtype::Bf16)?;
        let some = |block: Block| matches!(block, Block::Mlp(_) | Block::Head);
        let plans = [
            pinned.clone(),
            streamed(pinned.clone(), some, 0.0)?,
            streamed(pinned.clone(), some, 0.5)?,
            streamed(pinned.clone(), |block| block != Block::Embedding, 0.1)?,
            // The tied head then has a matrix of its own in the store.
            streamed(pinned.clone(), |block| block == Block::Embedding, 0.0)?,
            streamed(pinned.clone(), |_| true, 0.1)?,
        ];
        for (index, plan) in plans.iter().enumerate() {
            let mut ring = workers.configure(plan).await?;
            for chunk in [64, 7] {
                // The others end when the first one does, however far they are then.
                let outcome = drive(&mut ring, &batch, chunk).await?.swap_remove(0);
                let expected = reference.get_or_insert_with(|| outcome.clone());
                assert!(
                    outcome == *expected,
                    "{devices} devices, {segments} segments, plan {index}, chunks of {chunk}"
                );
            }
        }
        workers.stop().await?;
    }
    Ok(())
}

/// The plan with chunks of a prompt that travel together.
fn together(plan: Plan) -> Result<Plan> {
    let prediction = serde_json::json!({
        "timePerToken": 1, "sequences": 1, "contextTokens": 1, "timeToFirstToken": 1, "promptTokens": 1, "lowerBound": 1, "binds": "",
        "devices": [],
    });
    let outlook = serde_json::json!({
        "objective": "Sporadic", "microBatches": 1, "promptPasses": 8, "prediction": prediction,
    });
    let plan = PlanDraft { outlook: Some(serde_json::from_value(outlook)?), ..plan.into_draft() };
    Ok(plan.try_into()?)
}

/// The chunks of a prompt as passes, so many on their way at once; gives the tokens drawn from the last.
async fn prefill(ring: &mut RingDriver, prompt: &[u32], chunk: usize, at_once: usize) -> Result<Vec<Token>> {
    let chunks: Vec<&[u32]> = prompt.chunks(chunk).collect();
    let mut drawn = Vec::new();
    for (wave, chunks_of) in chunks.chunks(at_once).enumerate() {
        for (index, tokens) in chunks_of.iter().enumerate() {
            let place = wave * at_once + index;
            let sample = (place + 1 == chunks.len()).then(|| Sampling { return_logits: true, ..Sampling::default() });
            let (start, count) = ((place * chunk) as u32, tokens.len() as u32);
            ring.submit(vec![Rows { slot: 0, start, count, sample, ..Rows::default() }], tokens.to_vec(), vec![])
                .await?;
        }
        for _ in chunks_of {
            let result = ring.next().await?;
            anyhow::ensure!(result.failure.is_empty(), "{}", result.failure);
            drawn.extend(result.tokens);
        }
    }
    Ok(drawn)
}

/// Chunks of a prompt that travel together through the segments have each streamed block read once, and not once each; the bits are
/// those of chunks that wait for one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_a_prompt_that_travel_together_share_what_is_read() -> Result<()> {
    let (model, store) = (fixtures::bard(), tempfile::tempdir()?);
    let plan = even_plan(&card(&model)?, 2, 2, SERVING, Dtype::Bf16)?;
    // What streams in a visit is in the buffer together.
    let plan = streamed(plan, |block| matches!(block, Block::Mlp(_)), 0.5)?;
    let prompt: Vec<u32> = (0..112).map(|index| 2 + index * 131 % 1000).collect();
    let mut workers = Workers::start_with_store(&model, Some(store.path()), 2, 1).await?;
    let mut read = Vec::new();
    let mut answers = Vec::new();
    for (plan, at_once) in [(plan.clone(), 1), (together(plan)?, 8)] {
        let mut ring = workers.configure(&plan).await?;
        answers.push(prefill(&mut ring, &prompt, 16, at_once).await?);
        let replies = workers.status().await?;
        read.push(
            replies.iter().filter_map(|reply| reply.stream.as_ref()).map(|stream| stream.read_bytes).sum::<u64>(),
        );
    }
    assert!(answers[0] == answers[1], "other bits");
    assert!(read[1] * 2 < read[0], "{} bytes read together, {} one by one", read[1], read[0]);
    workers.stop().await
}
