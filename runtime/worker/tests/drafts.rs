//! Guesses change no answer: rings of fakes and of real engines draw with drafts what they draw without, whether the drafts are the truth,
//! garbage, or the truth up to somewhere; greedy and sampled, with penalties, biases and log-probabilities, alone and among batch mates.
//! `LIME_TEST_DRAFT_TOKENS` has more tokens compared.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use common::{Ring, anywhere, card, config, next, plan, topology};
use lime_model::ModelFolder;
use lime_plan::{Plan, TokenSet};
use lime_ring::{
    MOST_DRAFTS, RingDriver,
    proto::{self, Draft, LogitBias, Rows, Sampling, Token},
};
use lime_worker::{WorkerConfig, fake::FakeLoader, start};

/// What a sequence asks for.
#[derive(Clone)]
struct Asked {
    prompt: Vec<u32>,
    draws: usize,
    sampling: Sampling,
    /// Taken from a token's logit once it was drawn, and each time that it was.
    penalties: (f32, f32),
    /// Of so many tokens, where only those may be drawn that what was drawn leaves.
    formed: Option<u32>,
}

impl Asked {
    fn of(seed: u64, vocabulary: u32, draws: usize) -> Self {
        let mut random = Random(seed);
        let prompt = (0..3 + random.below(40)).map(|_| random.below(vocabulary.into()) as u32).collect();
        let sampled = !seed.is_multiple_of(3);
        let sampling = Sampling {
            temperature: if sampled { 0.9 } else { 0.0 },
            top_p: if seed.is_multiple_of(2) { 0.9 } else { 1.0 },
            top_k: if seed.is_multiple_of(5) { 40 } else { 0 },
            seed,
            logprobs: seed % 4 < 2,
            top_logprobs: (seed % 4 < 2) as u32 * 3,
            bias: vec![LogitBias { token: seed as u32 % vocabulary, value: 1.5 }],
            return_logits: true,
            min_p: if seed % 4 == 2 { 0.02 } else { 0.0 },
            repetition_penalty: if seed % 3 == 1 { 1.2 } else { 0.0 },
            ..Sampling::default()
        };
        let penalties = if seed % 2 == 1 { (0.7, 0.3) } else { (0.0, 0.0) };
        let formed = (seed % 5 == 2).then_some(vocabulary);
        Self { prompt, draws, sampling, penalties, formed }
    }

    /// The bias of a token that was drawn `count` times, as a gateway adds it up.
    fn bias(&self, token: u32, count: u32) -> f32 {
        let own = self.sampling.bias.iter().find(|bias| bias.token == token).map_or(0.0, |bias| bias.value);
        own - (self.penalties.0 + self.penalties.1 * count as f32)
    }

    /// What may be drawn after `drawn`, as a grammar would say it.
    fn allowed(&self, drawn: &[u32]) -> Option<proto::TokenSet> {
        let mut set = TokenSet::none(self.formed?);
        let sum = drawn.iter().rev().take(3).sum::<u32>();
        (0..set.vocabulary()).filter(|token| (token + sum) % 4 != 0).for_each(|token| set.insert(token));
        Some((&set).into())
    }

    /// How to draw after `drawn`.
    fn after(&self, drawn: &[u32]) -> Sampling {
        let allowed = self.allowed(drawn);
        let mut sampling = Sampling { draw: drawn.len() as u64, allowed, ..self.sampling.clone() };
        if self.penalties != (0.0, 0.0) {
            for (token, count) in counts(drawn) {
                sampling.bias.retain(|bias| bias.token != token);
                sampling.bias.push(LogitBias { token, value: self.bias(token, count) });
            }
        }
        if sampling.repetition_penalty != 0.0 {
            let said: BTreeSet<u32> = self.prompt.iter().chain(drawn).copied().collect();
            sampling.repeated = said.into_iter().collect();
        }
        sampling
    }

    fn drafts(&self, drawn: &[u32], guesses: &[u32]) -> Vec<Draft> {
        let mut all = drawn.to_vec();
        let draft = |token: &u32| {
            all.push(*token);
            let count = counts(&all)[token];
            let bias = (self.penalties != (0.0, 0.0)).then(|| self.bias(*token, count));
            Draft { token: *token, bias, allowed: self.allowed(&all) }
        };
        guesses.iter().map(draft).collect()
    }
}

fn counts(tokens: &[u32]) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    tokens.iter().for_each(|token| *counts.entry(*token).or_default() += 1);
    counts
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[derive(Clone, Default)]
struct Drawn {
    held: usize,
    tokens: Vec<Token>,
}

impl Drawn {
    fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.token).collect()
    }
}

/// Drives all sequences together, prompts in chunks of `chunk`; `guess` says what is guessed of which sequence after which tokens, and how
/// many at most. Gives the tokens of each, and how many guesses held.
async fn drive(
    driver: &mut RingDriver,
    asked: &[Asked],
    chunk: usize,
    mut guess: impl FnMut(usize, &[u32], usize) -> Vec<u32>,
) -> (Vec<Vec<Token>>, usize) {
    let (mut all, mut held) = (vec![Drawn::default(); asked.len()], 0);
    while all.iter().zip(asked).any(|(drawn, asked)| drawn.tokens.len() < asked.draws) {
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        for (slot, (drawn, asked)) in all.iter_mut().zip(asked).enumerate() {
            let (ids, left) = (drawn.ids(), asked.draws - drawn.tokens.len());
            if left == 0 {
                continue;
            }
            let known: Vec<u32> = asked.prompt.iter().chain(&ids).copied().collect();
            let sure = &known[drawn.held..known.len().min(drawn.held + chunk)];
            let draws = drawn.held + sure.len() == known.len();
            let drafts = if draws { asked.drafts(&ids, &guess(slot, &ids, left - 1)) } else { Vec::new() };
            let (slot, start, count) = (slot as u32, drawn.held as u32, (sure.len() + drafts.len()) as u32);
            tokens.extend(sure.iter().copied().chain(drafts.iter().map(|draft| draft.token)));
            drawn.held += sure.len();
            let sample = draws.then(|| asked.after(&ids));
            rows.push(Rows { slot, start, count, sample, drafts, ..Rows::default() });
        }
        let sent = rows.clone();
        driver.submit(rows, tokens, vec![]).await.unwrap();
        let result = next(driver).await;
        assert_eq!(result.failure, "");
        for Rows { slot, sample, drafts, .. } in sent {
            let own: Vec<Token> = result.tokens.iter().filter(|token| token.slot == slot).cloned().collect();
            let right = drafts.iter().zip(&own).take_while(|(draft, token)| draft.token == token.token).count();
            assert_eq!(own.len(), if sample.is_some() { 1 + right } else { 0 }, "one, and one for each that held");
            held += right;
            let drawn = &mut all[slot as usize];
            drawn.held += right;
            drawn.tokens.extend(own);
        }
    }
    (all.into_iter().map(|drawn| drawn.tokens).collect(), held)
}

/// Compares a ring with itself: once without drafts, then with those of a fuzzer. Gives how many tokens were compared.
async fn compare(driver: &mut RingDriver, vocabulary: u32, mates: usize, draws: usize, seed: u64, what: &str) -> usize {
    let asked: Vec<Asked> = (0..mates as u64).map(|mate| Asked::of(seed * 10 + mate, vocabulary, draws)).collect();
    let (expected, _) = drive(driver, &asked, 20, |_, _, _| Vec::new()).await;
    let truth: Vec<Vec<u32>> = expected.iter().map(|all| all.iter().map(|token| token.token).collect()).collect();
    let mut random = Random(seed);
    let room = 120 / mates;
    let (found, held) = drive(driver, &asked, 7, |slot, ids, left| {
        let window = random.below(MOST_DRAFTS.min(room) as u64 + 1) as usize;
        let right = random.below(window as u64 + 1) as usize;
        let mut guess: Vec<u32> = truth[slot][ids.len()..].iter().copied().take(right).collect();
        guess.resize_with(window, || random.below(vocabulary.into()) as u32);
        guess.truncate(left);
        guess
    })
    .await;
    for (mate, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(found == expected, "{what}, seed {seed}: sequence {mate} draws otherwise");
    }
    assert!(held > 0, "{what}: no guess held");
    mates * draws
}

/// How many tokens a test compares.
fn enough(default: usize) -> usize {
    std::env::var("LIME_TEST_DRAFT_TOKENS").ok().and_then(|tokens| tokens.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn fakes_of_every_split_draw_the_same_with_and_without() {
    for (index, (devices, segments, head)) in
        [(1, 1, 0), (1, 3, 0), (2, 1, 1), (3, 2, 0), (5, 3, 4)].into_iter().enumerate()
    {
        let plan = plan(card(12, 8, 97), devices, segments, head);
        let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
        let mut driver = ring.configure(1).await;
        let (mut compared, mut seed) = (0, index as u64 * 1000);
        while compared < enough(3000) / 5 {
            seed += 1;
            let what = format!("{devices} devices, {segments} segments");
            compared += compare(&mut driver, 97, 1 + seed as usize % 5, 60, seed, &what).await;
        }
        ring.stop().await;
    }
}

fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/bard-2m")
}

async fn ring(plan: &Plan, threads: usize) -> Ring {
    let mut workers = Vec::new();
    for device in &plan.devices {
        let config = WorkerConfig { model: model().into(), threads, ..config(&device.name) };
        workers.push(start(config, anywhere()).await.unwrap());
    }
    Ring { topology: topology(plan, &workers), workers }
}

/// To the bit of every logit that a token was drawn from.
#[tokio::test]
async fn engines_of_every_split_draw_the_same_with_and_without() {
    let card = ModelFolder::open(model()).unwrap().card("bard-2m");
    let vocabulary = card.vocabulary;
    for (index, (devices, segments, head)) in [(1, 1, 0), (2, 3, 0), (3, 2, 1)].into_iter().enumerate() {
        let ring = ring(&plan(card.clone(), devices, segments, head), 1).await;
        let mut driver = ring.configure(1).await;
        let (mut compared, mut seed) = (0, index as u64 * 1000);
        while compared < enough(900) / 3 {
            seed += 1;
            let what = format!("{devices} devices, {segments} segments");
            compared += compare(&mut driver, vocabulary, 1 + seed as usize % 4, 40, seed, &what).await;
        }
        ring.stop().await;
    }
}
