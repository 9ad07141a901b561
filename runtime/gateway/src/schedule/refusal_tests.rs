//! Sequences that ask for what cannot be done, beside others.

use std::collections::HashMap;

use lime_ring::proto::{PassResult, Token};
use proptest::prelude::*;

use super::{
    tests::{Model, limits, wish},
    *,
};

/// Where a ring refuses a sequence: its gateway's end does not send the pass, or its first worker does not compute it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Gateway,
    Worker,
}

/// A ring of workers that refuse any pass with `token`, and fail passes whose rows do not follow what they hold.
struct Refusing {
    token: u32,
    at: At,
    cache: HashMap<u32, Vec<u32>>,
    sent: VecDeque<PassRequest>,
    passes: u64,
}

impl Refusing {
    fn guilty(&self, pass: &PassRequest) -> Option<u32> {
        let mut given = pass.tokens.iter();
        let has = |rows: &&Rows| given.by_ref().take(rows.count as usize).any(|token| *token == self.token);
        // `any` stops early: what it leaves of a sequence is of the guilty one.
        pass.rows.iter().find(has).map(|rows| rows.slot)
    }

    fn answer(&mut self) -> Option<PassResult> {
        let pass = self.sent.pop_front()?;
        self.passes += 1;
        let mut result = PassResult { pass: self.passes, ..PassResult::default() };
        for slot in &pass.release {
            self.cache.remove(slot);
        }
        if let Some(slot) = self.guilty(&pass) {
            let (failure, refused_slot) = ("refused".into(), Some(slot));
            result = PassResult { failure, refused_slot, ..result };
            result.set_failure_kind(FailureKind::Refused);
            return Some(result);
        }
        let follows =
            |rows: &Rows| rows.start == 0 || self.cache.get(&rows.slot).map_or(0, Vec::len) == rows.start as usize;
        if !pass.rows.iter().all(follows) {
            return Some(PassResult { failure: "rows out of order".into(), ..result });
        }
        let mut given = pass.tokens.iter().copied();
        for rows in &pass.rows {
            let cache = self.cache.entry(rows.slot).or_default();
            cache.truncate(rows.start as usize);
            cache.extend(given.by_ref().take(rows.count as usize));
            if rows.sample.is_some() {
                result.tokens.push(Token { slot: rows.slot, token: Model::next_of(cache), ..Token::default() });
            }
        }
        Some(result)
    }
}

/// Runs to the end; gives answers, and who was refused.
fn run(scheduler: &mut Scheduler, ring: &mut Refusing) -> (HashMap<u64, Vec<u32>>, Vec<u64>) {
    let (mut answers, mut refused) = (HashMap::<u64, Vec<u32>>::new(), Vec::new());
    for _ in 0..100_000 {
        while let Some(pass) = scheduler.next_pass() {
            match ring.guilty(&pass).filter(|_| ring.at == At::Gateway) {
                Some(slot) => refused.push(scheduler.take_back(slot).unwrap().0),
                None => ring.sent.push_back(pass),
            }
        }
        let Some(result) = ring.answer() else { break };
        let drawn = |drawn: Drawn| answers.entry(drawn.id.0).or_default().push(drawn.token.token);
        match scheduler.complete(result, drawn).unwrap() {
            Completed::Taken => {}
            Completed::Refused(id, cause) => {
                assert_eq!(cause, "refused");
                refused.push(id.0);
            }
            Completed::Failed(kind, cause) => panic!("the ring must not begin anew: {kind:?}, {cause}"),
        }
    }
    assert_eq!((scheduler.active(), scheduler.waiting(), scheduler.in_flight()), (0, 0, 0));
    (answers, refused)
}

const GUILTY: u32 = 950;

proptest! {
    /// Whatever the limits and wherever it is refused: the guilty sequence ends at once, the ring never begins anew, and every other
    /// sequence draws what it would have drawn alone.
    #[test]
    fn a_refused_sequence_ends_alone(
        (slots, chunk, depth) in (1_u32..5, 1_u32..9, 1_usize..5),
        (groups, ride_along) in (1_usize..4, any::<bool>()),
        at in prop_oneof![Just(At::Gateway), Just(At::Worker)],
        sizes in proptest::collection::vec((1_usize..20, 1_u32..12, any::<bool>(), any::<prop::sample::Index>()), 1..9),
    ) {
        let limits = Limits { slots, chunk, depth, decode_groups: groups, ride_along, queue: 100, ..limits() };
        let mut wishes = Vec::new();
        let mut guilty = Vec::new();
        for ((prompt, most, is_guilty, place), id) in sizes.iter().zip(1..) {
            let mut wish = wish(id, *prompt, *most);
            if *is_guilty {
                let mut tokens = wish.prompt.to_vec();
                tokens[place.index(*prompt)] = GUILTY;
                wish.prompt = tokens.into();
                guilty.push(id);
            }
            wishes.push(wish);
        }
        let mut scheduler = Scheduler::new(limits);
        scheduler.admit(wishes.clone()).unwrap();
        let mut ring = Refusing { token: GUILTY, at, cache: HashMap::new(), sent: VecDeque::new(), passes: 0 };
        let (answers, mut refused) = run(&mut scheduler, &mut ring);
        refused.sort_unstable();
        prop_assert_eq!(&refused, &guilty);
        for wish in &wishes {
            let expected = if guilty.contains(&wish.id.0) { Vec::new() } else { Model::expected(wish) };
            prop_assert_eq!(answers.get(&wish.id.0).cloned().unwrap_or_default(), expected);
        }
    }
}

#[test]
fn a_failure_without_anybody_to_blame_is_the_rings() {
    for (kind, slot) in [(FailureKind::Refused, None), (FailureKind::Refused, Some(2)), (FailureKind::Damaged, Some(0))]
    {
        let mut scheduler = Scheduler::new(limits());
        scheduler.admit(vec![wish(1, 3, 5)]).unwrap();
        scheduler.next_pass().unwrap();
        let mut result = PassResult { pass: 1, failure: "why".into(), refused_slot: slot, ..PassResult::default() };
        result.set_failure_kind(kind);
        let completed = scheduler.complete(result, |_| {}).unwrap();
        assert_eq!(completed, Completed::Failed(kind, "why".into()));
        assert!(scheduler.restart(Restart::Damaged).is_empty());
        assert_eq!(scheduler.active(), 1);
    }
}

#[test]
fn a_refusal_of_a_slot_that_is_in_no_pass_is_out_of_turn() {
    let mut scheduler = Scheduler::new(limits());
    assert!(scheduler.take_back(0).is_err());
    scheduler.admit(vec![wish(1, 3, 5)]).unwrap();
    scheduler.next_pass().unwrap();
    assert!(scheduler.take_back(2).is_err());
}

#[test]
fn damage_is_no_sequences_fault() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.admit(vec![wish(1, 3, 5)]).unwrap();
    for _ in 0..100 {
        scheduler.next_pass().unwrap();
        assert!(scheduler.restart(Restart::Damaged).is_empty());
    }
    for _ in 0..2 {
        scheduler.next_pass().unwrap();
        assert!(scheduler.restart(Restart::PassFailed).is_empty());
    }
    scheduler.next_pass().unwrap();
    assert_eq!(scheduler.restart(Restart::PassFailed), [SequenceId(1)]);
}

#[test]
fn giving_up_ends_all_who_wait_and_all_under_way() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.admit((1..=5).map(|id| wish(id, 3, 5)).collect()).unwrap();
    scheduler.next_pass().unwrap();
    assert!(scheduler.restart(Restart::RingLost).is_empty());
    assert_eq!(scheduler.give_up_all().len(), 5);
    assert_eq!((scheduler.active(), scheduler.waiting()), (0, 0));
    scheduler.admit(vec![wish(9, 3, 5)]).unwrap();
    assert!(scheduler.next_pass().is_some());
}
