//! Plans that take the place of others.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    tests::{Model, limits, wish},
    *,
};

/// What became of the sequences: their answers, and those that were given up.
#[derive(Debug, Default)]
struct Outcome {
    answers: BTreeMap<u64, Vec<u32>>,
    given_up: BTreeSet<u64>,
}

/// Runs to the end; before the result number `step`, the plan's limits become `plans[step]`.
fn run(scheduler: &mut Scheduler, mut now: Limits, plans: &BTreeMap<u64, Limits>) -> Outcome {
    let (mut model, mut found) = (Model::default(), Outcome::default());
    for step in 0..100_000 {
        if let Some(next) = plans.get(&step) {
            now = *next;
            scheduler.take_up(now);
            model = Model::default();
        }
        found.given_up.extend(scheduler.outgrown().iter().map(|id| id.0));
        while let Some(pass) = scheduler.next_pass() {
            assert!(pass.rows.iter().all(|rows| rows.slot < now.slots && rows.start + rows.count <= now.context));
            model.send(pass, &now);
        }
        let Some(result) = model.answer() else { break };
        let answers = &mut found.answers;
        scheduler.complete(result, |drawn| answers.entry(drawn.id.0).or_default().push(drawn.token.token)).unwrap();
    }
    assert_eq!((scheduler.active(), scheduler.waiting(), scheduler.in_flight()), (0, 0, 0));
    found
}

#[test]
fn fewer_slots_make_the_last_wait_before_those_who_wait_already() {
    let mut scheduler = Scheduler::new(limits());
    scheduler.admit((1..=5).map(|id| wish(id, 2, 3)).collect()).unwrap();
    assert_eq!((scheduler.active(), scheduler.waiting()), (3, 2));
    scheduler.take_up(Limits { slots: 1, ..limits() });
    assert_eq!((scheduler.active(), scheduler.waiting()), (1, 4));
    let order = |scheduler: &Scheduler| scheduler.waiting.iter().map(|sequence| sequence.id.0).collect::<Vec<_>>();
    assert_eq!(order(&scheduler), [2, 3, 4, 5]);
    scheduler.cancel(SequenceId(1));
    scheduler.take_up(Limits { slots: 2, ..limits() });
    assert_eq!((scheduler.active(), order(&scheduler)), (2, vec![4, 5]));
}

#[test]
fn who_has_no_room_in_a_shorter_context_is_given_up_and_others_go_on() {
    // Prompts of 2, 9 and 12 tokens, and answers that go on until their limit.
    let endless = |id, prompt| NewSequence { end_tokens: [].into(), ..wish(id, prompt, 20) };
    let wishes = [endless(1, 2), endless(2, 9), endless(3, 12)];
    let mut scheduler = Scheduler::new(Limits { context: 64, ..limits() });
    scheduler.admit(wishes.to_vec()).unwrap();
    let short = Limits { context: 23, ..limits() };
    let found = run(&mut scheduler, Limits { context: 64, ..limits() }, &BTreeMap::from([(6, short)]));
    assert_eq!(found.given_up, BTreeSet::from([2, 3]));
    for (wish, drawn) in wishes.iter().zip([20, 14, 11]) {
        assert_eq!(found.answers[&wish.id.0], Model::expected(wish)[..drawn], "all that fits is drawn");
    }
}

proptest! {
    /// Whenever plans of whatever size follow each other: every sequence draws what it would have drawn alone.
    #[test]
    fn a_new_plan_changes_no_answer(
        sizes in proptest::collection::vec((1_usize..20, 1_u32..12), 1..9),
        plans in proptest::collection::btree_map(0_u64..60, (1_u32..5, 1_u32..9, 1_usize..5, 1_usize..4, any::<bool>()), 1..6),
    ) {
        let wishes: Vec<NewSequence> =
            sizes.iter().zip(1..).map(|((prompt, most), id)| wish(id, *prompt, *most)).collect();
        let first = Limits { queue: 100, ..limits() };
        let plans = plans
            .into_iter()
            .map(|(step, (slots, chunk, depth, decode_groups, ride_along))| {
                (step, Limits { slots, chunk, depth, decode_groups, ride_along, ..first })
            })
            .collect();
        let mut scheduler = Scheduler::new(first);
        scheduler.admit(wishes.clone()).unwrap();
        let found = run(&mut scheduler, first, &plans);
        prop_assert!(found.given_up.is_empty());
        for wish in &wishes {
            prop_assert_eq!(found.answers.get(&wish.id.0).cloned().unwrap_or_default(), Model::expected(wish));
        }
    }
}
