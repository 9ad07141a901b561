//! SmolLM2-135M-Instruct: a real model that a package registry holds, and the answers of transformers in f32 to prompts of everyday.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use lime_plan::{Bytes, Dtype, Fleet, Goal, Link, ModelCard, Nanos, Plan};
use lime_planner::plan;
use lime_ring::RingDriver;
use serde::Deserialize;

use crate::{
    fixtures::repository,
    node::node,
    ring::{Sequence, drive},
};

/// What `smollm2.py` ends with where wheel or tools cannot be had.
const NOT_TO_BE_HAD: i32 = 75;

/// A prompt and its golden answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// What was asked.
    pub question: String,
    /// The chat as the model's template renders it.
    pub prompt: String,
    /// Its tokens.
    pub prompt_ids: Vec<u32>,
    /// The answer's tokens: 80, or to the end.
    pub greedy_ids: Vec<u32>,
    /// For each of them the best logit minus the second.
    pub margins: Vec<f32>,
}

/// The prompts with their golden answers.
///
/// # Errors
/// When the fixture is damaged.
pub fn golden() -> Result<Vec<Case>> {
    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }
    let text = std::fs::read_to_string(repository().join("tests/fixtures/smollm2/golden.json"))?;
    Ok(serde_json::from_str::<Golden>(&text)?.cases)
}

/// The model's folder, made the first time and kept under `target`; `None`, said aloud, where it cannot be had.
///
/// # Errors
/// When what was had is not the model.
pub fn smollm2() -> Result<Option<PathBuf>> {
    had("smollm2-135m-instruct")
}

/// The same model as the GGUF file that the registry has: matrices Q4_1, embedding Q8_0.
///
/// # Errors
/// As [`smollm2`].
pub fn smollm2_gguf() -> Result<Option<PathBuf>> {
    had("smollm2-135m-instruct-Q4_1.gguf")
}

fn had(name: &str) -> Result<Option<PathBuf>> {
    let folder = repository().join("target/real-models").join(name);
    if folder.exists() {
        return Ok(Some(folder));
    }
    let script = repository().join("tests/fixtures/tools/smollm2.py");
    let made = match Command::new("python3").arg(script).arg(&folder).output() {
        Ok(made) => made,
        Err(error) => {
            eprintln!("skipped: SmolLM2-135M-Instruct cannot be made: python3 cannot be run: {error}");
            return Ok(None);
        }
    };
    let said = String::from_utf8_lossy(&made.stderr);
    match made.status.code() {
        Some(0) => Ok(Some(folder)),
        Some(NOT_TO_BE_HAD) => {
            eprintln!(
                "skipped: SmolLM2-135M-Instruct cannot be had: {}",
                said.lines().last().unwrap_or("no reason said")
            );
            Ok(None)
        }
        _ => bail!("SmolLM2-135M-Instruct was not made: {said}"),
    }
}

/// What the planner makes of three devices of 128 MiB, of which none could hold the model, for `together` chats at once.
///
/// # Errors
/// When they cannot serve it without a disk.
pub fn three_devices(card: &ModelCard, kv: Dtype, together: usize) -> Result<Plan> {
    let node = |index| node(&format!("device-{index}"), Bytes::mib(128));
    let mut goal = Goal::bursty(card, 160, together as u32);
    goal.kv = kv;
    let link = Link { bandwidth: 1_000_000_000, latency: Nanos::ZERO };
    let fleet = Fleet::uniform((0..3).map(node).collect(), link);
    plan(card, &fleet, &goal).map_err(|refusal| anyhow::anyhow!("{refusal}"))
}

/// Greedy answers of the ring, as long as the golden ones, to `together` chats at a time.
///
/// # Errors
/// When the ring breaks.
pub async fn answers(ring: &mut RingDriver, cases: &[Case], together: usize) -> Result<Vec<Vec<u32>>> {
    let mut answers = vec![Vec::new(); cases.len()];
    // The longest answers first: those of a group end at about the same time.
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(cases[*index].greedy_ids.len()));
    for group in order.chunks(together.max(1)) {
        let sequence = |index: &usize| {
            let Case { prompt_ids, greedy_ids, .. } = &cases[*index];
            Sequence { prompt: prompt_ids.clone(), draws: greedy_ids.len(), temperature: 0.0, seed: 0 }
        };
        let sequences: Vec<Sequence> = group.iter().map(sequence).collect();
        for (index, outcome) in group.iter().zip(drive(ring, &sequences, 16).await?) {
            answers[*index] = outcome.tokens;
        }
    }
    Ok(answers)
}

/// Where an answer first differs from the golden one: the place and the golden margin there.
///
/// # Errors
/// When the answer has another length.
pub fn first_difference(case: &Case, answer: &[u32]) -> Result<Option<(usize, f32)>> {
    if answer.len() != case.greedy_ids.len() {
        bail!("{}: {} tokens instead of {}", case.question, answer.len(), case.greedy_ids.len());
    }
    let Some(at) = answer.iter().zip(&case.greedy_ids).position(|(token, golden)| token != golden) else {
        return Ok(None);
    };
    Ok(Some((at, *case.margins.get(at).context("a margin for each token")?)))
}
