//! Tokens guessed ahead, against none: what the scheduler makes of a ring when the text repeats what was read (an edit), when it hardly does
//! (prose), and when there is nothing to guess. The model's weights are random, so each draw is told by its biases which token to take: times
//! are the ring's, and guesses hold as they would in that text.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use lime_gateway::{
    SamplingParams, Speculation,
    schedule::{Completed, Guessed, Limits, NewSequence, PassRequest, Scheduler, SequenceId},
};
use lime_plan::{Block, Dtype, Plan, ServingLimits};
use lime_ring::{LinkShape, RingDriver, Transport, proto::LogitBias};
use lime_tests::{
    fixtures,
    ring::{Workers, card, even_plan, streamed},
};

use crate::report::{Samples, figure, ratio};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 2048, max_concurrent_requests: 4, prefill_chunk_tokens: 128 };
/// Tokens of a prompt.
const PROMPT: usize = 400;
/// Of an edited text every so many words one is another.
const EDIT_EVERY: usize = 17;

/// The links of the ring of four.
const LINK: LinkShape = LinkShape { bandwidth_bits: 1_000_000_000, latency: Duration::from_micros(300) };

/// How much is measured.
pub(crate) struct Extent {
    /// Threads of a device that is alone; those of a ring have one each.
    pub(crate) threads: usize,
    /// How often each answer is written, with and without in alternation.
    pub(crate) rounds: usize,
    /// Tokens of an answer.
    pub(crate) tokens: usize,
    /// Only rings whose name has this in it.
    pub(crate) only: String,
}

/// Measures and prints.
pub(crate) fn measure(model: &Path, extent: &Extent) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(compare(model, extent))
}

async fn compare(model: &Path, extent: &Extent) -> Result<()> {
    let Extent { threads, rounds, tokens, ref only } = *extent;
    let store = tempfile::tempdir_in(model.parent().context("the model is in no folder")?)?;
    let ample = even_plan(&card(model)?, 1, 1, SERVING, Dtype::F16)?;
    let four = even_plan(&card(model)?, 4, 1, SERVING, Dtype::F16)?;
    let layers = |kept: u32| move |block| matches!(block, Block::Attention(layer) | Block::Mlp(layer) if !layer.0.is_multiple_of(kept));
    let plans = [
        ("in memory", ample.clone()),
        ("four devices in memory", four),
        ("half of the layers streamed", streamed(ample.clone(), layers(2), 0.3)?),
        ("two thirds streamed", streamed(ample, layers(3), 0.3)?),
    ];
    let vocabulary = plans[0].1.model.vocabulary;
    let text = words(vocabulary)?;
    for (name, plan) in plans.iter().filter(|(name, _)| name.contains(only.as_str())) {
        let mut workers = if plan.devices.len() > 1 {
            Workers::start_linked(&Transport::Plaintext, model, store.path(), plan.devices.len(), Some(LINK)).await?
        } else {
            Workers::start_with_store(model, Some(store.path()), 1, threads).await?
        };
        let mut ring = workers.configure(plan).await?;
        for (what, prompt, answer, target) in [
            (
                "edit",
                &text[..PROMPT],
                edited(&text[..PROMPT], tokens, vocabulary),
                match *name {
                    "in memory" => ">= 1",
                    "four devices in memory" => ">= 1.5",
                    _ => ">= 3",
                },
            ),
            ("prose", &text[..PROMPT], text[PROMPT..].iter().copied().take(tokens).collect(), ">= 0.98"),
            ("random", &text[..PROMPT], random(tokens, vocabulary), ">= 0.98"),
        ] {
            let (mut without, mut with, mut guessed) = (Samples::default(), Samples::default(), Guessed::default());
            for _ in 0..rounds {
                without.push(write(&mut ring, plan, Speculation::Off, prompt, &answer).await?.0);
                let (speed, of_round) = write(&mut ring, plan, Speculation::Auto, prompt, &answer).await?;
                with.push(speed);
                guessed += of_round;
            }
            figure(&format!("{name}, {what}: without"), &without, "tokens/s");
            let (held, all) = (guessed.held, guessed.held + guessed.wrong);
            println!("  guesses that held: {held} of {all}, in {} tokens", answer.len() * rounds);
            ratio(&format!("{name}, {what}: with / without"), &with.over(&without), target);
        }
        workers.stop().await?;
    }
    Ok(())
}

/// Writes `answer` behind `prompt`; tokens in a second after the first, and what became of guesses.
async fn write(
    ring: &mut RingDriver,
    plan: &Plan,
    how: Speculation,
    prompt: &[u32],
    answer: &[u32],
) -> Result<(f64, Guessed)> {
    let mut scheduler = Scheduler::speculating(Limits::of(plan, 1), how);
    let sequence = NewSequence {
        id: SequenceId(1),
        prompt: prompt.into(),
        max_tokens: answer.len() as u32,
        sampling: SamplingParams::default(),
        end_tokens: [].into(),
        trace: None,
        prediction: [].into(),
        key: None,
        matcher: None,
        scoring: None,
        pooling: None,
    };
    scheduler.admit(vec![sequence])?;
    let (mut written, mut guessed, mut first, mut last) = (Vec::new(), Guessed::default(), None, Instant::now());
    let mut passes = 0;
    while written.len() < answer.len() {
        while let Some(mut pass) = scheduler.next_pass() {
            dictate(&mut pass, answer);
            ring.submit(pass.rows, pass.tokens, pass.release).await?;
        }
        let mut result = ring.next().await?;
        // The scheduler counts from its own first pass, the ring from its own.
        passes += 1;
        result.pass = passes;
        scheduler.took(last.elapsed());
        last = Instant::now();
        let completed = scheduler.complete(result, |drawn| {
            first.get_or_insert(last);
            written.push(drawn.token.token);
            guessed += drawn.guessed;
        })?;
        if completed != Completed::Taken {
            bail!("a pass failed: {completed:?}");
        }
    }
    if written != answer {
        bail!("the ring wrote another text");
    }
    let seconds = first.context("nothing was written")?.elapsed().as_secs_f64();
    Ok(((answer.len() - 1) as f64 / seconds, guessed))
}

/// Biases by which each draw takes the token of `answer` that it is to take, guesses that hold included.
fn dictate(pass: &mut PassRequest, answer: &[u32]) {
    /// Far above any logit, and so far apart that none decides.
    const HIGH: f32 = 1e6;
    const APART: f32 = 1e4;
    for rows in &mut pass.rows {
        let Some(sample) = &mut rows.sample else { continue };
        let begin = sample.draw as usize;
        let window = &answer[begin..answer.len().min(begin + 1 + rows.drafts.len())];
        let level = |from: usize, token: u32| {
            let next = window.iter().skip(from).position(|wanted| *wanted == token);
            next.map(|ahead| HIGH - APART * (from + ahead) as f32)
        };
        let mut tokens = window.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        sample.bias =
            tokens.into_iter().filter_map(|token| Some(LogitBias { token, value: level(0, token)? })).collect();
        for (place, draft) in rows.drafts.iter_mut().enumerate() {
            // Drawn once, it is wanted again only where the text has it again.
            draft.bias = Some(level(place + 1, draft.token).unwrap_or(0.0));
        }
    }
}

/// A text of ours, a token for each word.
fn words(vocabulary: u32) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(fixtures::repository().join("docs/architecture.md"))?;
    let token = |word: &str| {
        let hash = word.bytes().fold(17_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        1 + hash % (vocabulary - 1)
    };
    Ok(text.split_whitespace().map(token).collect())
}

/// `text` again and again, with another word now and then.
fn edited(text: &[u32], tokens: usize, vocabulary: u32) -> Vec<u32> {
    let word = |(place, token): (usize, &u32)| if place % EDIT_EVERY == 8 { place as u32 % vocabulary } else { *token };
    text.iter().cycle().take(tokens).enumerate().map(word).collect()
}

fn random(tokens: usize, vocabulary: u32) -> Vec<u32> {
    let mut state = 7_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % vocabulary
    };
    std::iter::repeat_with(next).take(tokens).collect()
}
