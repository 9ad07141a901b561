use std::collections::HashMap;

use lime_ring::proto::{PassResult, Token};
use proptest::prelude::*;

use super::*;
use crate::sampling::SamplingParams;

const END: u32 = 0;

pub(super) fn limits() -> Limits {
    Limits {
        slots: 3,
        chunk: 4,
        queue: 2,
        depth: 3,
        decode_groups: 1,
        ride_along: false,
        chunks_together: false,
        most_failures: 3,
        most_losses: 10,
        vocabulary: 1000,
        context: 1000,
        exact: true,
        kv_pages: 0,
    }
}

pub(super) fn wish(id: u64, prompt: usize, max_tokens: u32) -> NewSequence {
    let prompt = (0..prompt).map(|place| 1 + (id as u32 * 37 + place as u32) % 900).collect();
    let sampling = SamplingParams { seed: id, top_p: 1.0, ..SamplingParams::default() };
    NewSequence {
        id: SequenceId(id),
        prompt,
        max_tokens,
        sampling,
        end_tokens: [END].into(),
        trace: None,
        prediction: [].into(),
        key: None,
        matcher: None,
        scoring: None,
        pooling: None,
    }
}

/// A ring that draws what a sequence's tokens so far dictate, and checks what it is sent.
#[derive(Default)]
pub(super) struct Model {
    cache: HashMap<u32, Vec<u32>>,
    pub(super) sent: VecDeque<PassRequest>,
    passes: u64,
}

impl Model {
    pub(super) fn next_of(tokens: &[u32]) -> u32 {
        let hash = tokens.iter().fold(17_u32, |hash, token| hash.wrapping_mul(31).wrapping_add(*token));
        hash % 997 % 50
    }

    pub(super) fn send(&mut self, pass: PassRequest, limits: &Limits) {
        let rows: u32 = pass.rows.iter().map(|rows| rows.count).sum();
        assert!(rows <= limits.chunk + limits.slots, "{rows} rows");
        assert_eq!(rows as usize, pass.tokens.len());
        let busy = |slot: &u32| self.sent.iter().any(|sent| sent.rows.iter().any(|rows| rows.slot == *slot));
        assert!(!pass.release.iter().any(busy), "a busy slot is released");
        assert!(!pass.rows.iter().any(|rows| rows.start == 0 && busy(&rows.slot)), "a busy slot begins anew");
        self.sent.push_back(pass);
        assert!(self.sent.len() <= limits.depth);
    }

    pub(super) fn answer(&mut self) -> Option<PassResult> {
        let pass = self.sent.pop_front()?;
        self.passes += 1;
        for slot in &pass.release {
            self.cache.remove(slot);
        }
        let mut given = pass.tokens.iter().copied();
        let mut tokens = Vec::new();
        for rows in &pass.rows {
            let cache = self.cache.entry(rows.slot).or_default();
            if rows.start == 0 {
                cache.clear();
            }
            assert_eq!(cache.len(), rows.start as usize, "rows follow each other");
            cache.extend(given.by_ref().take(rows.count as usize - rows.drafts.len()));
            let guesses: Vec<u32> = given.by_ref().take(rows.drafts.len()).collect();
            assert!(guesses.iter().eq(rows.drafts.iter().map(|draft| &draft.token)));
            assert!(rows.sample.is_some() || guesses.is_empty());
            let mut guesses = guesses.into_iter();
            while rows.sample.is_some() {
                let token = Self::next_of(cache);
                tokens.push(Token { slot: rows.slot, token, ..Token::default() });
                // A guess that does not hold is forgotten here at once: the next rows begin where those that held end.
                if guesses.next() != Some(token) {
                    break;
                }
                cache.push(token);
            }
        }
        Some(PassResult { pass: self.passes, tokens, ..PassResult::default() })
    }

    /// What an undisturbed sequence draws.
    pub(super) fn expected(wish: &NewSequence) -> Vec<u32> {
        let mut tokens = wish.prompt.to_vec();
        for _ in 0..wish.max_tokens {
            tokens.push(Self::next_of(&tokens));
            if tokens.last().is_some_and(|last| wish.end_tokens.contains(last)) {
                break;
            }
        }
        tokens.split_off(wish.prompt.len())
    }
}

/// Runs to the end; `disturb` may cancel or restart before each result.
pub(super) fn run(
    scheduler: &mut Scheduler,
    limits: &Limits,
    mut disturb: impl FnMut(&mut Scheduler, &mut Model, u64),
) -> HashMap<u64, Vec<u32>> {
    let mut model = Model::default();
    let mut answers: HashMap<u64, Vec<u32>> = HashMap::new();
    for step in 0..100_000 {
        while let Some(pass) = scheduler.next_pass() {
            model.send(pass, limits);
        }
        disturb(scheduler, &mut model, step);
        if model.sent.is_empty() {
            while let Some(pass) = scheduler.next_pass() {
                model.send(pass, limits);
            }
        }
        let Some(result) = model.answer() else { break };
        scheduler.complete(result, |drawn| answers.entry(drawn.id.0).or_default().push(drawn.token.token)).unwrap();
    }
    assert_eq!((scheduler.active(), scheduler.waiting(), scheduler.in_flight()), (0, 0, 0));
    answers
}

#[test]
fn prefill_goes_in_chunks_and_only_the_last_one_draws() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.admit(vec![wish(1, 10, 2)]).unwrap();
    let passes: Vec<PassRequest> = std::iter::from_fn(|| scheduler.next_pass()).collect();
    let shape: Vec<(u32, u32, bool)> =
        passes.iter().map(|pass| (pass.rows[0].start, pass.rows[0].count, pass.rows[0].sample.is_some())).collect();
    assert_eq!(shape, [(0, 4, false), (4, 4, false), (8, 2, true)]);
}

#[test]
fn sequences_decode_together_and_prefill_beside() {
    let mut scheduler = Scheduler::new(limits());
    let mut model = Model::default();
    scheduler.admit(vec![wish(1, 2, 9), wish(2, 2, 9)]).unwrap();
    let pass = scheduler.next_pass().unwrap();
    assert_eq!(pass.rows.len(), 2, "two short prompts share a chunk");
    model.send(pass, &limits());
    assert!(scheduler.next_pass().is_none());
    scheduler.complete(model.answer().unwrap(), |_| {}).unwrap();
    scheduler.admit(vec![wish(3, 9, 2)]).unwrap();
    let pass = scheduler.next_pass().unwrap();
    let counts: Vec<u32> = pass.rows.iter().map(|rows| rows.count).collect();
    assert_eq!(counts, [1, 1, 4], "decode rows and a chunk in one pass");
    let pass = scheduler.next_pass().unwrap();
    assert_eq!(pass.rows[0].count, 4, "the next chunk does not wait");
}

#[test]
fn where_passes_are_dear_prefill_waits_for_the_decode_pass() {
    let limits = Limits { ride_along: true, ..limits() };
    let mut scheduler = Scheduler::new(limits);
    let mut model = Model::default();
    scheduler.admit(vec![wish(1, 2, 9)]).unwrap();
    model.send(scheduler.next_pass().unwrap(), &limits);
    scheduler.complete(model.answer().unwrap(), |_| {}).unwrap();
    model.send(scheduler.next_pass().unwrap(), &limits);
    scheduler.admit(vec![wish(2, 6, 2)]).unwrap();
    assert!(scheduler.next_pass().is_none());
    scheduler.complete(model.answer().unwrap(), |_| {}).unwrap();
    assert_eq!(scheduler.next_pass().unwrap().rows.len(), 2);
}

#[test]
fn long_prompts_take_turns() {
    let mut scheduler = Scheduler::new(Limits { depth: 4, ..limits() });
    scheduler.admit(vec![wish(1, 12, 1), wish(2, 12, 1)]).unwrap();
    let slots: Vec<u32> = std::iter::from_fn(|| scheduler.next_pass()).map(|pass| pass.rows[0].slot).collect();
    assert_eq!(slots, [0, 1, 0, 1]);
}

/// Chunks of a prompt that meet the same streamed blocks go right behind each other, up to a number; nothing comes between them, and the next
/// begin when all of them are back.
#[test]
fn chunks_of_a_prompt_travel_together_where_passes_keep_apart() {
    let limits = Limits { depth: 3, ride_along: true, chunks_together: true, ..limits() };
    let mut scheduler = Scheduler::new(limits);
    let mut model = Model::default();
    scheduler.admit(vec![wish(1, 18, 2), wish(2, 3, 2)]).unwrap();
    let mut sent: Vec<Vec<(u32, u32)>> = Vec::new();
    let mut waves = Vec::new();
    for _ in 0..6 {
        let before = sent.len();
        while let Some(pass) = scheduler.next_pass() {
            sent.push(pass.rows.iter().map(|rows| (rows.slot, rows.count)).collect());
            model.send(pass, &limits);
            // The first is back: none joins those that are still on their way.
            if sent.len() - before == 3 {
                scheduler.complete(model.answer().unwrap(), |_| {}).unwrap();
                assert!(scheduler.next_pass().is_none());
            }
        }
        waves.push(sent.len() - before);
        while let Some(answer) = model.answer() {
            scheduler.complete(answer, |_| {}).unwrap();
        }
    }
    // The second prompt is short and has waited: its first token comes along with what is left of the first one, and is decoded apart.
    assert_eq!(sent[..3], [vec![(0, 4)], vec![(0, 4)], vec![(0, 4)]]);
    assert_eq!(waves[0], 3, "{waves:?} {sent:?}");
    assert!(waves[1..].iter().all(|wave| *wave <= 2), "{waves:?} {sent:?}");
    assert_eq!((scheduler.active(), scheduler.waiting()), (0, 0), "{sent:?}");
}

#[test]
fn the_queue_has_an_end_and_requests_go_in_whole() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.admit((1..=4).map(|id| wish(id, 1, 1)).collect()).unwrap();
    assert_eq!((scheduler.active(), scheduler.waiting()), (3, 1));
    let full = scheduler.admit(vec![wish(5, 1, 1), wish(6, 1, 1)]).unwrap_err();
    assert_eq!(full, QueueFull { waiting: 1, limit: 2 });
    scheduler.admit(vec![wish(7, 1, 1)]).unwrap();
    assert_eq!(scheduler.waiting(), 2);
}

#[test]
fn a_cancelled_slot_is_released_once_nothing_of_it_is_on_its_way() {
    let limits = limits();
    let mut scheduler = Scheduler::new(limits);
    let mut model = Model::default();
    scheduler.admit(vec![wish(1, 7, 5), wish(2, 1, 5)]).unwrap();
    while let Some(pass) = scheduler.next_pass() {
        model.send(pass, &limits);
    }
    scheduler.cancel(SequenceId(1));
    assert_eq!(scheduler.active(), 2, "its chunks are still on their way");
    let mut released = Vec::new();
    while let Some(result) = model.answer() {
        scheduler.complete(result, |drawn| assert_eq!(drawn.id, SequenceId(2))).unwrap();
        while let Some(pass) = scheduler.next_pass() {
            released.extend_from_slice(&pass.release);
            model.send(pass, &limits);
        }
    }
    assert_eq!(released, [0]);
    assert_eq!(scheduler.active(), 0);
}

#[test]
fn answers_end_at_the_end_token_or_at_the_limit() {
    let limits = limits();
    for id in 1..40 {
        let wish = wish(id, 5, 60);
        let mut scheduler = Scheduler::new(limits);
        scheduler.admit(vec![wish.clone()]).unwrap();
        let answers = run(&mut scheduler, &limits, |_, _, _| {});
        assert_eq!(answers[&id], Model::expected(&wish));
    }
}

#[test]
fn a_sequence_that_fails_alone_takes_nobody_with_it() {
    let limits = limits();
    let mut scheduler = Scheduler::new(limits);
    scheduler.admit(vec![wish(1, 3, 50), wish(2, 3, 50)]).unwrap();
    let mut failures = 0;
    let mut given_up = Vec::new();
    let answers = run(&mut scheduler, &limits, |scheduler, model, _| {
        // Whatever carries slot 0 fails.
        while model.sent.front().is_some_and(|pass| given_up.is_empty() && pass.rows.iter().any(|rows| rows.slot == 0))
        {
            failures += 1;
            given_up.extend(scheduler.restart(Restart::PassFailed));
            *model = Model::default();
            while let Some(pass) = scheduler.next_pass() {
                model.send(pass, &limits);
            }
        }
    });
    assert_eq!(given_up, [SequenceId(1)]);
    assert_eq!(failures, 3);
    assert_eq!(answers[&2], Model::expected(&wish(2, 3, 50)));
}

#[test]
fn a_result_out_of_turn_is_an_error() {
    let mut scheduler = Scheduler::new(limits());
    assert!(scheduler.complete(PassResult::default(), |_| {}).is_err());
    for wrong in [
        PassResult { pass: 2, ..PassResult::default() },
        PassResult { pass: 1, ..PassResult::default() },
        PassResult { pass: 1, tokens: vec![Token { slot: 2, ..Token::default() }], ..PassResult::default() },
        PassResult {
            pass: 1,
            tokens: vec![Token { slot: 0, token: 1000, ..Token::default() }],
            ..PassResult::default()
        },
    ] {
        let mut scheduler = Scheduler::new(limits());
        scheduler.admit(vec![wish(1, 1, 1)]).unwrap();
        scheduler.next_pass().unwrap();
        assert!(scheduler.complete(wrong.clone(), |_| {}).is_err(), "{wrong:?}");
    }
}

proptest! {
    /// Whatever the limits, the batch mates, the moments at which the ring is lost or others are cancelled: every
    /// sequence draws what it would have drawn alone.
    #[test]
    fn nothing_changes_an_answer(
        (slots, chunk, depth) in (1_u32..5, 1_u32..9, 1_usize..5),
        (groups, ride_along, chunks_together) in (1_usize..4, any::<bool>(), any::<bool>()),
        sizes in proptest::collection::vec((1_usize..20, 1_u32..12), 1..9),
        losses in proptest::collection::btree_set(0_u64..60, 0..6),
        cancels in proptest::collection::btree_map(0_u64..40, 1_u64..9, 0..3),
    ) {
        let limits = Limits { slots, chunk, depth, decode_groups: groups, ride_along, chunks_together, ..limits() };
        let limits = Limits { queue: 100, most_losses: 100, ..limits };
        let wishes: Vec<NewSequence> =
            sizes.iter().zip(1..).map(|((prompt, most), id)| wish(id, *prompt, *most)).collect();
        let mut scheduler = Scheduler::new(limits);
        scheduler.admit(wishes.clone()).unwrap();
        let answers = run(&mut scheduler, &limits, |scheduler, model, step| {
            if let Some(id) = cancels.get(&step) {
                scheduler.cancel(SequenceId(*id));
            }
            if losses.contains(&step) {
                assert!(scheduler.restart(Restart::RingLost).is_empty());
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
