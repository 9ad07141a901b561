use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn quiet(placement: &Placement) -> Situation<'_> {
    Situation {
        now: at(10_000),
        placement,
        has_plan: true,
        stale_wish: false,
        serves: false,
        loads: false,
        lost: Vec::new(),
        cut: Vec::new(),
        grace: 40,
        turn: 0,
        draining: Vec::new(),
        emptied: false,
        refused: Vec::new(),
        pressed: Vec::new(),
        added: Vec::new(),
        changed: false,
        since: Since::default(),
        replans: Vec::new(),
    }
}

#[test]
fn nothing_changed_nothing_moves() {
    assert_eq!(decide_replan(&quiet(&Placement::default())), ReplanDecision::Keep);
}

#[test]
fn a_lost_node_is_planned_around_at_once_even_over_the_cap() {
    fn lost(placement: &Placement) -> Situation<'_> {
        Situation { lost: vec!["b is gone".into()], replans: vec![at(9_990); 50], ..quiet(placement) }
    }
    let mut placement = Placement::default();
    assert_eq!(decide_replan(&lost(&placement)), ReplanDecision::Replan(Trigger::NodeLost, "b is gone".into()));
    placement.replan.on_node_loss = Reaction::Never;
    assert!(matches!(decide_replan(&lost(&placement)), ReplanDecision::Suppressed(Trigger::NodeLost, _)));
}

#[test]
fn pressure_and_new_nodes_must_last_and_are_capped() {
    let placement = Placement::default();
    let pressed = |since, replans| Situation {
        pressed: vec!["a is short".into()],
        since: Since { pressed: since, ..Since::default() },
        replans,
        ..quiet(&placement)
    };
    let table = [
        (None, vec![], "wait"),
        (Some(at(9_950)), vec![], "wait"),
        (Some(at(9_880)), vec![], "replan"),
        (Some(at(9_000)), vec![at(9_000); 3], "replan"),
        (Some(at(9_000)), vec![at(9_000); 4], "suppressed"),
        (Some(at(9_000)), vec![at(1_000); 9], "replan"),
    ];
    for (since, replans, expected) in table {
        let found = match decide_replan(&pressed(since, replans.clone())) {
            ReplanDecision::Wait(Trigger::MemoryPressure, _, until) => {
                assert!(until > at(10_000));
                "wait"
            }
            ReplanDecision::Replan(Trigger::MemoryPressure, _) => "replan",
            ReplanDecision::Suppressed(Trigger::MemoryPressure, why) => {
                assert!(why.contains("maxPerHour is 4"), "{why}");
                "suppressed"
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{since:?} {replans:?}");
    }
    let added = Situation {
        added: vec!["c".into()],
        since: Since { added: Some(at(0)), ..Since::default() },
        ..quiet(&placement)
    };
    assert!(matches!(decide_replan(&added), ReplanDecision::TryBetter(Trigger::NodesAdded, _)));
}

#[test]
fn while_requests_are_answered_pressure_must_make_for_a_gain() {
    let placement = Placement::default();
    let since = Since { pressed: Some(at(0)), changed: Some(at(0)), ..Since::default() };
    let pressed = |serves| Situation { serves, pressed: vec!["a".into()], since, ..quiet(&placement) };
    assert_eq!(decide_replan(&pressed(true)), ReplanDecision::TryBetter(Trigger::MemoryPressure, "a".into()));
    assert_eq!(decide_replan(&pressed(false)), ReplanDecision::Replan(Trigger::MemoryPressure, "a".into()));
    let changed = Situation { changed: true, since, ..quiet(&placement) };
    assert!(matches!(decide_replan(&changed), ReplanDecision::TryBetter(Trigger::NodesChanged, _)));
}

#[test]
fn a_drain_is_never_capped_and_an_evicted_shard_never_waited_for() {
    let placement = Placement::default();
    let draining = |lasted: i64, emptied| Situation {
        draining: vec!["a".into(), "b".into()],
        emptied,
        since: Since { draining: Some(at(10_000 - lasted)), ..Since::default() },
        replans: vec![at(9_990); 50],
        ..quiet(&placement)
    };
    let moved = ReplanDecision::Replan(Trigger::NodeDraining, "a; b".into());
    assert!(matches!(decide_replan(&draining(119, false)), ReplanDecision::Wait(Trigger::NodeDraining, ..)));
    assert_eq!(decide_replan(&draining(120, false)), moved);
    assert_eq!(decide_replan(&draining(0, true)), moved);
    assert!(!Trigger::NodeDraining.counts() && Trigger::NodeLost.counts());
}

#[test]
fn a_shard_that_is_not_put_on_its_node_is_planned_around_if_that_lasts() {
    let placement = Placement::default();
    let refused = |lasted: i64, replans| Situation {
        refused: vec!["a".into()],
        since: Since { refused: Some(at(10_000 - lasted)), ..Since::default() },
        replans,
        ..quiet(&placement)
    };
    assert!(matches!(decide_replan(&refused(119, vec![])), ReplanDecision::Wait(Trigger::ShardUnschedulable, ..)));
    assert_eq!(decide_replan(&refused(120, vec![])), ReplanDecision::Replan(Trigger::ShardUnschedulable, "a".into()));
    assert!(matches!(decide_replan(&refused(120, vec![at(9_990); 4])), ReplanDecision::Suppressed(..)));
}

#[test]
fn the_chain_has_an_order() {
    let placement = Placement::default();
    let all = Situation {
        stale_wish: true,
        lost: vec!["a".into()],
        pressed: vec!["b".into()],
        added: vec!["c".into()],
        ..quiet(&placement)
    };
    assert!(matches!(decide_replan(&all), ReplanDecision::Replan(Trigger::SpecChanged, _)));
    let none = Situation { has_plan: false, ..all };
    assert!(matches!(decide_replan(&none), ReplanDecision::Replan(Trigger::NoPlan, _)));
}

#[test]
fn only_a_gain_that_is_large_enough_is_worth_a_move() {
    let placement = Placement::default();
    let table = [
        (Some(100), Some(85), true),
        (Some(100), Some(86), false),
        (Some(100), Some(100), false),
        (None, Some(1), false),
        (Some(1), None, false),
    ];
    for (old, new, expected) in table {
        assert_eq!(worth_it(&placement, old, new), expected, "{old:?} {new:?}");
    }
    let mut any = Placement::default();
    any.replan.min_improvement_percent = 0;
    assert!(worth_it(&any, Some(i64::MAX), Some(i64::MAX - 1)));
    assert!(!worth_it(&any, Some(5), Some(5)));
}

#[test]
fn a_lost_link_is_waited_for_as_a_lost_node_is() {
    let mut placement = Placement::default();
    fn cut(placement: &Placement, since: Option<Timestamp>) -> Situation<'_> {
        let since = Since { cut: since, ..Since::default() };
        Situation { cut: vec!["a and b".into()], since, replans: vec![at(9_990); 50], ..quiet(placement) }
    }
    let wait = |until| ReplanDecision::Wait(Trigger::LinkLost, "a and b".into(), at(until));
    assert_eq!(decide_replan(&cut(&placement, None)), wait(10_040));
    assert_eq!(decide_replan(&cut(&placement, Some(at(9_961)))), wait(10_001));
    // Nothing is served: the cap does not hold it back.
    let due = ReplanDecision::Replan(Trigger::LinkLost, "a and b".into());
    assert_eq!(decide_replan(&cut(&placement, Some(at(9_960)))), due);
    let both = Situation { lost: vec!["c is gone".into()], ..cut(&placement, None) };
    assert!(
        matches!(decide_replan(&both), ReplanDecision::Replan(Trigger::NodeLost, _)),
        "a lost node is not waited for"
    );
    placement.replan.on_node_loss = Reaction::Never;
    assert!(matches!(decide_replan(&cut(&placement, None)), ReplanDecision::Suppressed(Trigger::LinkLost, _)));
}

#[test]
fn what_all_see_at_once_they_try_for_in_turn() {
    let placement = Placement::default();
    let with = |turn, seconds: i64| {
        let since = Since { changed: Some(at(10_000 - seconds)), ..Since::default() };
        matches!(
            decide_replan(&Situation { changed: true, turn, since, ..quiet(&placement) }),
            ReplanDecision::TryBetter(..)
        )
    };
    assert_eq!([with(0, 119), with(0, 120), with(7, 126), with(7, 127)], [false, true, false, true]);
    // Pressure is each one's own.
    let since = Since { pressed: Some(at(9_880)), ..Since::default() };
    let pressed = Situation { pressed: vec!["a".into()], turn: 99, since, ..quiet(&placement) };
    assert!(matches!(decide_replan(&pressed), ReplanDecision::Replan(..)));

    assert_eq!(turn("any", 1), 0);
    let turns: Vec<i64> = (0..500).map(|index| turn(&format!("uid-{index}"), 500)).collect();
    assert!(turns.iter().all(|turn| (0..500).contains(turn)));
    let distinct: std::collections::BTreeSet<_> = turns.iter().collect();
    assert!(distinct.len() > 250, "{}", distinct.len());
    assert_eq!(turn("uid-1", 500), turns[1]);
    assert!(turn("uid-1", usize::MAX) < 600);
}
