//! Sequences that begin behind what others computed: the same answers, fewer rows, and no more pages than there is room for.

use std::collections::{BTreeSet, HashMap};

use lime_plan::{KV_PAGE_TOKENS, PageName, TokenBasis};
use lime_ring::proto::PassResult;
use proptest::prelude::*;

use super::{
    tests::{Model, limits, wish},
    *,
};

const PAGE: usize = KV_PAGE_TOKENS as usize;

fn wide(kv_pages: u64) -> Limits {
    Limits { chunk: 50, queue: 100, most_losses: 100, kv_pages, ..limits() }
}

/// A prompt that begins as all of its kind do.
fn of_kind(id: u64, kind: u32, common: usize, own: usize, max_tokens: u32) -> NewSequence {
    let own = wish(id, own, max_tokens);
    let prompt = (0..common).map(|place| 1 + (kind * 331 + place as u32) % 900).chain(own.prompt.iter().copied());
    NewSequence { prompt: prompt.collect(), ..own }
}

/// What a slot holds, and in which places of memory.
#[derive(Default)]
struct Held {
    tokens: Vec<u32>,
    places: Vec<usize>,
}

/// A ring that keeps pages, and checks what it is told of them.
struct Keeping {
    slots: HashMap<u32, Held>,
    /// A page and its place, by its number.
    kept: HashMap<u64, (Vec<u32>, usize)>,
    places: usize,
    sent: VecDeque<PassRequest>,
    passes: u64,
    rows: usize,
    room: u64,
    /// Of so many passes one finds a page gone, and tells so or not.
    forgets: Option<(u64, bool)>,
    /// Pages by their names, whatever becomes of the ring.
    disk: HashMap<Vec<u8>, Vec<u32>>,
    /// Of so many pages that are wanted again one is not there.
    misses: Option<usize>,
    wanted: usize,
}

impl Keeping {
    fn new(room: u64) -> Self {
        let (slots, kept, sent) = (HashMap::new(), HashMap::new(), VecDeque::new());
        let disk = HashMap::new();
        Self { slots, kept, places: 0, sent, passes: 0, rows: 0, room, forgets: None, disk, misses: None, wanted: 0 }
    }

    fn restart(&mut self) {
        let disk = std::mem::take(&mut self.disk);
        let Self { rows, forgets, misses, wanted, .. } = *self;
        *self = Self { rows, forgets, misses, wanted, disk, ..Self::new(self.room) };
    }

    /// What a device says of its disk.
    fn restorable(&self) -> [Restorable; 1] {
        let names = self.disk.keys().map(|name| PageName::try_from(name.as_slice()).unwrap());
        [Restorable { names: names.collect(), disk_pages: 100 }]
    }

    fn restore(&mut self, pages: &[RestoredPage]) -> Vec<u64> {
        let mut missing = Vec::new();
        for RestoredPage { page, name } in pages {
            self.wanted += 1;
            let misses = self.misses.is_some_and(|every| self.wanted.is_multiple_of(every));
            match self.disk.get(name).filter(|_| !misses).cloned() {
                Some(tokens) => {
                    self.places += 1;
                    assert!(self.kept.insert(*page, (tokens, self.places)).is_none(), "a number is given once");
                }
                None => missing.push(*page),
            }
        }
        missing
    }

    fn answer(&mut self) -> Option<PassResult> {
        let pass = self.sent.pop_front()?;
        self.passes += 1;
        let mut result = PassResult { pass: self.passes, ..PassResult::default() };
        for keep in &pass.keep {
            for (number, id) in (keep.first as usize..).zip(&keep.pages) {
                let held = &self.slots[&keep.slot];
                let page = held.tokens[number * PAGE..(number + 1) * PAGE].to_vec();
                if let Some(name) = keep.names.get(number - keep.first as usize) {
                    let before = self.disk.insert(name.clone(), page.clone());
                    assert!(before.is_none_or(|before| before == page), "pages of one name are one page");
                }
                assert!(self.kept.insert(*id, (page, held.places[number])).is_none(), "a number is given once");
            }
        }
        for slot in &pass.release {
            self.slots.remove(slot);
        }
        pass.forget.iter().for_each(|id| {
            self.kept.remove(id);
        });
        result.forgotten = self.restore(&pass.restore);
        if let Some((every, tells)) = self.forgets
            && self.passes.is_multiple_of(every)
            && let Some(id) = self.kept.keys().min().copied()
        {
            self.kept.remove(&id);
            result.forgotten.extend(tells.then_some(id));
        }
        let mut given = pass.tokens.iter().copied();
        for rows in &pass.rows {
            if !rows.prefix.is_empty() {
                let found: Option<Vec<_>> = rows.prefix.iter().map(|id| self.kept.get(id)).collect();
                let Some(found) = found else {
                    result.failure = "it is not kept".into();
                    result.set_failure_kind(FailureKind::Forgotten);
                    result.tokens.clear();
                    return Some(result);
                };
                let tokens = found.iter().flat_map(|(page, _)| page).copied().collect();
                let places = found.iter().map(|(_, place)| *place).collect();
                self.slots.insert(rows.slot, Held { tokens, places });
            }
            let held = self.slots.entry(rows.slot).or_default();
            if rows.start == 0 {
                *held = Held::default();
            }
            if held.tokens.len() != rows.start as usize {
                assert!(self.forgets.is_some(), "rows follow each other");
                return Some(PassResult { failure: "rows out of order".into(), tokens: Vec::new(), ..result });
            }
            held.tokens.extend(given.by_ref().take(rows.count as usize));
            while held.places.len() * PAGE < held.tokens.len() {
                self.places += 1;
                held.places.push(self.places);
            }
            self.rows += rows.count as usize;
            if rows.sample.is_some() {
                result.tokens.push(Token { slot: rows.slot, token: Model::next_of(&held.tokens), ..Token::default() });
            }
        }
        self.check_room();
        Some(result)
    }

    /// What is only kept has no room that a sequence needs.
    fn check_room(&self) {
        let used: BTreeSet<usize> = self.slots.values().flat_map(|held| held.places.iter().copied()).collect();
        let idle: BTreeSet<usize> =
            self.kept.values().map(|(_, place)| *place).filter(|place| !used.contains(place)).collect();
        // Where a pass has failed, what it was to bring is counted late.
        if self.forgets.is_none() {
            assert!(idle.is_empty() || (idle.len() + used.len()) as u64 <= self.room, "{idle:?} beside {used:?}");
        }
    }
}

struct Ran {
    answers: HashMap<u64, Vec<u32>>,
    cached: HashMap<u64, u32>,
    rows: usize,
}

fn run(
    scheduler: &mut Scheduler,
    ring: &mut Keeping,
    mut disturb: impl FnMut(&mut Scheduler, &mut Keeping, u64),
) -> Ran {
    let (mut answers, mut cached) = (HashMap::<u64, Vec<u32>>::new(), HashMap::new());
    for step in 0..100_000 {
        while let Some(pass) = scheduler.next_pass() {
            ring.sent.push_back(pass);
        }
        disturb(scheduler, ring, step);
        while let Some(pass) = scheduler.next_pass() {
            ring.sent.push_back(pass);
        }
        let Some(result) = ring.answer() else { break };
        let drawn = |drawn: Drawn| {
            cached.insert(drawn.id.0, drawn.cached);
            answers.entry(drawn.id.0).or_default().push(drawn.token.token);
        };
        match scheduler.complete(result, drawn).unwrap() {
            Completed::Failed(kind, why) => panic!("{kind:?}: {why}"),
            Completed::Taken | Completed::Refused(..) => {}
        }
    }
    assert_eq!((scheduler.active(), scheduler.waiting(), scheduler.in_flight()), (0, 0, 0));
    Ran { answers, cached, rows: ring.rows }
}

fn on(limits: Limits) -> Scheduler {
    Scheduler::new(limits).keeping(PrefixCache::PerKey)
}

/// The same with names for what is kept.
fn naming(limits: Limits) -> Scheduler {
    let plan = lime_plan::testing::proportional(&lime_plan::testing::PlanRequest {
        model: &lime_plan::testing::small_card(&mut lime_plan::testing::Random::new(1), 4),
        devices: &[lime_plan::testing::DeviceBudget { name: "a".into(), memory: lime_plan::Bytes::gib(64) }],
        serving: lime_plan::ServingLimits {
            max_context_tokens: 64,
            max_concurrent_requests: 1,
            prefill_chunk_tokens: 16,
        },
        segments: 1,
        arithmetic: Arithmetic::Exact,
        residual: lime_plan::Dtype::F32,
        kv: lime_plan::Dtype::F32,
    });
    let names = Roots::new(&TokenBasis::of(&plan.unwrap()), &["one".into(), "two".into()]).unwrap();
    on(limits).naming(names)
}

#[test]
fn what_devices_have_left_is_not_computed_again() {
    let (mut scheduler, mut ring) = (naming(wide(100)), Keeping::new(100));
    let wish = |id, key| NewSequence { key: Some(KeyId(key)), ..of_kind(id, 0, 5 * PAGE, 10, 30) };
    scheduler.found(&ring.restorable());
    scheduler.admit(vec![wish(1, 0)]).unwrap();
    let before = run(&mut scheduler, &mut ring, |_, _, _| {});
    assert_eq!(ring.disk.len(), (5 * PAGE + 10 + before.answers[&1].len() - 1) / PAGE);
    // Another gateway, and workers that were restarted.
    let mut scheduler = naming(wide(100));
    ring.restart();
    scheduler.found(&ring.restorable());
    scheduler.admit(vec![wish(2, 0), wish(3, 0), wish(4, 1)]).unwrap();
    let after = run(&mut scheduler, &mut ring, |_, _, _| {});
    assert_eq!([2, 3, 4].map(|id| after.cached[&id]), [320, 320, 0], "another key finds nothing");
    assert_eq!(scheduler.take_prefix_counts().restored, 5, "once for both");
    // In the middle of an answer only what is lost is computed again.
    scheduler.admit(vec![wish(5, 0)]).unwrap();
    let mut lost_at = 0;
    let again = run(&mut scheduler, &mut ring, |scheduler, ring, step| {
        if step == 12 {
            assert!(scheduler.restart(Restart::RingLost).is_empty());
            ring.restart();
            scheduler.found(&ring.restorable());
            lost_at = ring.rows;
        }
    });
    assert_eq!(again.answers[&5], Model::expected(&wish(5, 0)));
    assert!(again.rows - lost_at < 64 + 30, "{} rows after the loss", again.rows - lost_at);
    // One that turns out to be gone is computed again, with what comes behind it.
    let mut scheduler = naming(wide(100));
    ring.restart();
    ring.misses = Some(3);
    ring.wanted = 0;
    scheduler.found(&ring.restorable());
    scheduler.admit(vec![wish(6, 0)]).unwrap();
    let missed = run(&mut scheduler, &mut ring, |_, _, _| {});
    assert_eq!((missed.cached[&6], &missed.answers[&6]), (128, &Model::expected(&wish(6, 0))));
}

#[test]
fn no_more_comes_back_than_there_is_room_for() {
    let (mut scheduler, mut ring) = (naming(wide(100)), Keeping::new(6));
    scheduler.found(&ring.restorable());
    // Of two tokens: a page that the last pass fills is not kept.
    let wishes = [of_kind(1, 0, 4 * PAGE, 10, 2), of_kind(2, 1, 4 * PAGE, 10, 2)];
    ring.room = 100;
    scheduler.admit(wishes.to_vec()).unwrap();
    run(&mut scheduler, &mut ring, |_, _, _| {});
    let mut scheduler = naming(wide(6));
    ring.room = 6;
    ring.restart();
    scheduler.found(&ring.restorable());
    for (id, kind) in [(3, 0), (4, 1), (5, 0)] {
        scheduler.admit(vec![of_kind(id, kind, 4 * PAGE, 10, 2)]).unwrap();
        let ran = run(&mut scheduler, &mut ring, |_, _, _| {});
        assert_eq!(ran.cached[&id], 256, "{id} of kind {kind}");
    }
    assert!(scheduler.kept_pages() <= 6);
}

#[test]
fn the_second_turn_of_a_chat_computes_what_is_new() {
    let (mut scheduler, mut ring) = (on(wide(100)), Keeping::new(100));
    let first = of_kind(1, 0, 150, 50, 70);
    scheduler.admit(vec![first.clone()]).unwrap();
    let ran = run(&mut scheduler, &mut ring, |_, _, _| {});
    let answer = ran.answers[&1].clone();
    let before = ring.rows;
    let said = first.prompt.iter().chain(&answer).copied();
    let second = NewSequence { prompt: said.chain(5..30).collect(), ..of_kind(2, 0, 0, 1, 5) };
    let whole = second.prompt.len();
    scheduler.admit(vec![second.clone()]).unwrap();
    let ran = run(&mut scheduler, &mut ring, |_, _, _| {});
    assert_eq!(ran.answers[&2], Model::expected(&second));
    let there = (200 + answer.len() - 1) / PAGE * PAGE;
    assert_eq!(ran.cached[&2], there as u32, "of prompt and answer");
    assert_eq!(ring.rows - before, whole - there + ran.answers[&2].len() - 1);
}

#[test]
fn several_answers_to_one_prompt_compute_it_once() {
    for slots in [1, 4] {
        let (mut scheduler, mut ring) = (on(Limits { slots, ..wide(100) }), Keeping::new(100));
        let wishes: Vec<NewSequence> = (1..=4)
            .map(|id| NewSequence { id: SequenceId(id), ..of_kind(1, 0, 3 * PAGE, 10, 4) })
            .map(|wish| NewSequence {
                sampling: crate::sampling::SamplingParams { seed: wish.id.0, ..wish.sampling.clone() },
                ..wish
            })
            .collect();
        scheduler.admit(wishes.clone()).unwrap();
        let ran = run(&mut scheduler, &mut ring, |_, _, _| {});
        let drawn: usize = ran.answers.values().map(|answer| answer.len() - 1).sum();
        assert_eq!(ran.rows, 3 * PAGE + 4 * 10 + drawn, "{slots} slots");
        assert_eq!(ran.cached.values().filter(|cached| **cached == 192).count(), 3);
    }
}

#[test]
fn another_key_waits_for_nobody_and_finds_nothing() {
    let (mut scheduler, mut ring) = (on(wide(100)), Keeping::new(100));
    let wish = |id, key| NewSequence { id: SequenceId(id), key: Some(KeyId(key)), ..of_kind(1, 0, 2 * PAGE, 10, 1) };
    scheduler.admit(vec![wish(1, 0), wish(2, 1)]).unwrap();
    let ran = run(&mut scheduler, &mut ring, |_, _, _| {});
    assert_eq!((ran.rows, ran.cached[&2]), (2 * (2 * PAGE + 10), 0));
    scheduler.admit(vec![wish(3, 1), wish(4, 2)]).unwrap();
    let ran = run(&mut scheduler, &mut ring, |_, _, _| {});
    assert_eq!((ran.cached[&3], ran.cached[&4]), (128, 0));
}

#[test]
fn a_ring_that_begins_anew_computes_common_beginnings_once() {
    let (mut scheduler, mut ring) = (on(wide(100)), Keeping::new(100));
    scheduler.admit((1..=3).map(|id| of_kind(id, 0, 4 * PAGE, 5, 20)).collect()).unwrap();
    let mut lost_at = 0;
    let ran = run(&mut scheduler, &mut ring, |scheduler, ring, step| {
        if step == 20 {
            assert!(scheduler.restart(Restart::RingLost).is_empty());
            ring.restart();
            lost_at = ring.rows;
        }
    });
    let again = ran.rows - lost_at;
    assert!((4 * PAGE..4 * PAGE + 3 * 30).contains(&again), "{again} rows computed after the loss");
    assert!(ran.cached.values().filter(|cached| **cached == 256).count() == 2, "what was there when they began");
}

#[test]
fn a_pass_that_is_not_sent_loses_no_order() {
    let (mut scheduler, mut ring) = (on(wide(100)), Keeping::new(100));
    scheduler.admit(vec![of_kind(1, 0, 2 * PAGE, 10, 1)]).unwrap();
    run(&mut scheduler, &mut ring, |_, _, _| {});
    scheduler.admit(vec![of_kind(2, 0, 2 * PAGE, 10, 1), of_kind(3, 1, 0, 3, 1)]).unwrap();
    let pass = scheduler.next_pass().unwrap();
    assert_eq!((pass.keep.len(), pass.rows[0].prefix.len()), (1, 2));
    assert_eq!(scheduler.take_back(pass.rows[1].slot).unwrap(), SequenceId(3));
    let again = scheduler.next_pass().unwrap();
    assert_eq!((&again.keep, &again.rows[0]), (&pass.keep, &pass.rows[0]));
    ring.sent.push_back(again);
    let ran = run(&mut scheduler, &mut ring, |_, _, _| {});
    assert_eq!(ran.cached[&2], 128);
}

proptest! {
    /// Whatever begins alike, is lost, cancelled, forgotten or in want of room: every sequence draws what it would have drawn alone.
    #[test]
    fn nothing_that_is_kept_changes_an_answer(
        (slots, chunk, depth, groups) in (1_u32..5, 20_u32..90, 1_usize..5, 1_usize..3),
        room in 4_u64..40,
        sizes in proptest::collection::vec((0_u32..2, 0_usize..260, 1_usize..90, 1_u32..12, 0_usize..2), 1..9),
        losses in proptest::collection::btree_set(0_u64..80, 0..4),
        cancels in proptest::collection::btree_map(0_u64..60, 1_u64..9, 0..3),
        forgets in proptest::option::of((2_u64..9, any::<bool>())),
        (named, misses) in (any::<bool>(), proptest::option::of(2_usize..9)),
    ) {
        let limits = Limits { slots, chunk, depth, decode_groups: groups, ..wide(room) };
        let wishes: Vec<NewSequence> = sizes.iter().zip(1..).map(|((kind, common, own, most, key), id)| {
            NewSequence { key: Some(KeyId(*key)), ..of_kind(id, *kind, *common, *own, *most) }
        }).collect();
        let mut scheduler = if named { naming(limits) } else { on(limits) };
        let mut ring = Keeping { forgets, misses, ..Keeping::new(room) };
        scheduler.found(&ring.restorable());
        scheduler.admit(wishes.clone()).unwrap();
        let ran = run(&mut scheduler, &mut ring, |scheduler, ring, step| {
            if let Some(id) = cancels.get(&step) {
                scheduler.cancel(SequenceId(*id));
            }
            if losses.contains(&step) {
                assert!(scheduler.restart(Restart::RingLost).is_empty());
                ring.restart();
                scheduler.found(&ring.restorable());
            }
        });
        for wish in &wishes {
            let answer = ran.answers.get(&wish.id.0).cloned().unwrap_or_default();
            let expected = Model::expected(wish);
            if cancels.values().any(|id| *id == wish.id.0) {
                prop_assert!(expected.starts_with(&answer));
            } else {
                prop_assert_eq!(answer, expected);
            }
        }
    }
}
