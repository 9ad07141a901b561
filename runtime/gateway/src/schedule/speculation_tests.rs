//! Guesses, whatever they are, change no answer and never ask for more than there is room for.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;

use super::{
    tests::{Model, limits, run, wish},
    *,
};
use crate::speculation::{Drafter, Guess};

/// Guesses the truth up to somewhere, then anything: tokens of the model and others.
#[derive(Debug)]
struct Fuzzer {
    tokens: Vec<u32>,
    random: AtomicU64,
    /// Of so many guesses one is wrong at most.
    faults: u64,
}

impl Fuzzer {
    fn below(&self, most: u64) -> u64 {
        let next = |state: u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let state = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap();
        (state >> 33) % most
    }
}

impl Drafter for Fuzzer {
    fn feed(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    fn guess(&self, most: usize) -> Guess {
        let mut known = self.tokens.clone();
        let mut tokens = Vec::new();
        for _ in 0..most {
            let truth = Model::next_of(&known);
            let wrong = self.faults > 0 && self.below(self.faults) == 0;
            tokens.push(if wrong { self.below(1100) as u32 } else { truth });
            known.push(truth);
        }
        Guess { tokens, matched: 1 + self.below(20) as u32 }
    }
}

fn fuzzed(limits: Limits, how: Speculation, seed: u64, faults: u64) -> Scheduler {
    let source = move |prompt: &[u32], _: &[u32]| -> Box<dyn Drafter> {
        let random = AtomicU64::new(seed ^ u64::from(prompt[0]));
        Box::new(Fuzzer { tokens: Vec::new(), random, faults })
    };
    Scheduler::guessing(limits, how, Arc::new(source))
}

proptest! {
    /// Whatever the limits, the batch mates, the guesses, what passes take, the moments at which the ring is lost, a plan is replaced or
    /// others are cancelled: every sequence draws what it would have drawn alone, no pass has more rows than the plan, and the guesses
    /// that are told of add up.
    #[test]
    fn guesses_change_no_answer(
        (slots, chunk, depth) in (1_u32..5, 1_u32..40, 1_usize..5),
        (groups, ride_along) in (1_usize..4, any::<bool>()),
        how in prop_oneof![Just(Speculation::Auto), (1_u32..32).prop_map(Speculation::Window)],
        (seed, faults) in (any::<u64>(), 0_u64..9),
        sizes in proptest::collection::vec((1_usize..20, 1_u32..40), 1..9),
        losses in proptest::collection::btree_set(0_u64..60, 0..6),
        plans in proptest::collection::btree_set(0_u64..60, 0..3),
        cancels in proptest::collection::btree_map(0_u64..40, 1_u64..9, 0..3),
        micros in proptest::collection::vec(1_u64..5000, 1..20),
    ) {
        let limits = Limits {
            slots, chunk, depth, decode_groups: groups, ride_along, queue: 100, most_losses: 100, ..limits()
        };
        let wishes: Vec<NewSequence> =
            sizes.iter().zip(1..).map(|((prompt, most), id)| wish(id, *prompt, *most)).collect();
        let mut scheduler = fuzzed(limits, how, seed, faults);
        scheduler.admit(wishes.clone()).unwrap();
        let answers = run(&mut scheduler, &limits, |scheduler, model, step| {
            scheduler.took(Duration::from_micros(micros[step as usize % micros.len()]));
            for pass in &model.sent {
                assert!(pass.rows.iter().all(|rows| rows.drafts.iter().all(|draft| draft.token < limits.vocabulary)));
                assert!(pass.rows.iter().all(|rows| rows.start + rows.count <= limits.context));
            }
            if let Some(id) = cancels.get(&step) {
                scheduler.cancel(SequenceId(*id));
            }
            if losses.contains(&step) {
                assert!(scheduler.restart(Restart::RingLost).is_empty());
                *model = Model::default();
            } else if plans.contains(&step) {
                scheduler.take_up(limits);
                *model = Model::default();
            }
        });
        for wish in &wishes {
            let answer = answers.get(&wish.id.0).cloned().unwrap_or_default();
            let expected = Model::expected(wish);
            if cancels.values().any(|id| *id == wish.id.0) {
                prop_assert!(expected.starts_with(&answer));
            } else {
                prop_assert_eq!(answer, expected);
            }
        }
    }
}

/// An answer without an end of its own.
fn endless(id: u64, prompt: usize, tokens: u32) -> NewSequence {
    NewSequence { end_tokens: [].into(), ..wish(id, prompt, tokens) }
}

/// Runs alone; the rows of every pass, and what became of the guesses.
fn alone(mut scheduler: Scheduler, wish: &NewSequence, limits: &Limits) -> (Vec<u32>, Guessed) {
    scheduler.admit(vec![wish.clone()]).unwrap();
    let (mut model, mut passes, mut guessed, mut answer) = (Model::default(), vec![], Guessed::default(), vec![]);
    while let Some(pass) = scheduler.next_pass() {
        passes.push(pass.tokens.len() as u32);
        model.send(pass, limits);
        scheduler.took(Duration::from_millis(10));
        let drawn = |drawn: Drawn| {
            guessed += drawn.guessed;
            answer.push(drawn.token.token);
        };
        scheduler.complete(model.answer().unwrap(), drawn).unwrap();
    }
    assert_eq!(answer, Model::expected(wish));
    (passes, guessed)
}

#[test]
fn tokens_that_were_guessed_take_no_pass_of_their_own() {
    let limits = Limits { slots: 1, chunk: 12, ..limits() };
    // One from the prompt, then passes of five, and no guess beyond what is asked for.
    let (passes, guessed) = alone(fuzzed(limits, Speculation::Window(4), 1, 0), &endless(1, 6, 20), &limits);
    assert_eq!((passes, guessed), (vec![6, 5, 5, 5, 4], Guessed { held: 15, wrong: 0 }));
    // Every guess is wrong: as many passes as without.
    let (passes, guessed) = alone(fuzzed(limits, Speculation::Window(2), 1, 1), &endless(1, 6, 5), &limits);
    assert_eq!((passes.len(), guessed.held), (5, 0));
    assert_eq!(
        guessed.wrong,
        u64::from(passes.iter().sum::<u32>()) - 10,
        "every row beside those of the prompt and the answer"
    );
}

#[test]
fn without_exact_sums_nothing_is_guessed() {
    let limits = Limits { slots: 1, chunk: 12, exact: false, ..limits() };
    let (passes, guessed) = alone(fuzzed(limits, Speculation::Window(4), 1, 0), &endless(1, 6, 5), &limits);
    assert_eq!((passes, guessed), (vec![6, 1, 1, 1, 1], Guessed::default()));
}

#[test]
fn a_sequence_in_trouble_is_tried_without_guesses() {
    let limits = Limits { slots: 1, chunk: 12, ..limits() };
    let mut scheduler = fuzzed(limits, Speculation::Window(4), 1, 0);
    scheduler.admit(vec![endless(1, 6, 20)]).unwrap();
    let mut model = Model::default();
    model.send(scheduler.next_pass().unwrap(), &limits);
    scheduler.complete(model.answer().unwrap(), |_| {}).unwrap();
    assert_eq!(scheduler.next_pass().unwrap().tokens.len(), 5);
    assert!(scheduler.restart(Restart::PassFailed).is_empty());
    model = Model::default();
    model.send(scheduler.next_pass().unwrap(), &limits);
    scheduler.complete(model.answer().unwrap(), |_| {}).unwrap();
    assert_eq!(scheduler.next_pass().unwrap().tokens.len(), 5, "a token came: it is trusted again");
}

/// What a pass with `rows` rows takes, for the whole of an answer whose guesses are right so often.
fn time(how: Speculation, faults: u64, seconds: fn(u32) -> f64) -> f64 {
    let limits = Limits { slots: 1, chunk: 32, ..limits() };
    let mut scheduler = fuzzed(limits, how, 7, faults);
    scheduler.admit(vec![endless(1, 40, 400)]).unwrap();
    let (mut model, mut total) = (Model::default(), 0.0);
    while let Some(pass) = scheduler.next_pass() {
        let took = seconds(pass.tokens.len() as u32);
        total += took;
        model.send(pass, &limits);
        scheduler.took(Duration::from_secs_f64(took));
        scheduler.complete(model.answer().unwrap(), |_| {}).unwrap();
    }
    total
}

/// By what passes cost: much is gained where guesses hold or rows cost little, and nothing is lost where neither is so.
#[test]
fn guessing_pays_or_is_left() {
    type Cost = fn(u32) -> f64;
    // Streamed: a pass costs its reading. In memory: each row costs a tenth. On slow cores: as much as a pass of its own.
    let costs: [(&str, Cost); 3] =
        [("streamed", |_| 1.0), ("memory", |rows| 0.9 + 0.1 * f64::from(rows)), ("cores", |rows| f64::from(rows))];
    let least = [("right", 0, [6.0, 2.5, 0.98]), ("half", 3, [1.8, 1.15, 0.98]), ("wrong", 1, [0.98, 0.98, 0.98])];
    for (guesses, faults, least) in least {
        for ((cost, seconds), least) in costs.into_iter().zip(least) {
            let gain = time(Speculation::Off, faults, seconds) / time(Speculation::Auto, faults, seconds);
            assert!(gain >= least, "{guesses} guesses, {cost}: {gain:.3} times as fast, not {least}");
        }
    }
}

/// Beside others, and with prompts that come in between, each answer is the one that it is alone.
#[test]
fn own_text_is_guessed_beside_others() {
    let limits = Limits { slots: 3, chunk: 16, ..limits() };
    let mut scheduler = Scheduler::speculating(limits, Speculation::Auto);
    let wishes: Vec<NewSequence> = (1..=5).map(|id| endless(id, 30, 40)).collect();
    let mut answers: HashMap<u64, Vec<u32>> = HashMap::new();
    scheduler.admit(wishes.clone()).unwrap();
    answers.extend(run(&mut scheduler, &limits, |scheduler, _, _| scheduler.took(Duration::from_millis(1))));
    for wish in &wishes {
        assert_eq!(answers[&wish.id.0], Model::expected(wish));
    }
}
