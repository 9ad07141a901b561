//! The search against brute force on small fleets whose every parameter is drawn.

use super::*;
use crate::cost::Unit;
use crate::layout::Grain;
use crate::search::request::time_of;
use crate::search::residency::{Choice, Effort, apply, choices};
use lime_plan::testing::{Random, drawn_node, small_card};
use lime_plan::{Fleet, Goal, Link, ModelCard, Nanos, Offload};

/// A case drawn from `seed`: a model of a few layers, unlike nodes (some without a disk), unlike links, either objective.
fn draw(seed: u64, most_nodes: u64, most_layers: u64) -> (ModelCard, Fleet, Goal) {
    let mut random = Random::new(seed);
    let layers = random.between(1, most_layers) as u32;
    let card = small_card(&mut random, layers);
    let nodes = random.between(1, most_nodes);
    let requests = random.between(1, 4) as u32;
    let mut goal =
        if random.between(0, 2) == 0 { Goal::bursty(&card, 64, requests) } else { Goal::sporadic(&card, 64) };
    goal.serving.prefill_chunk_tokens = 4;
    (goal.typical_prompt, goal.typical_answer) =
        (Some(random.between(1, 20) as u32), Some(random.between(1, 40) as u32));
    let fair = card.weight_bytes().0 / nodes;
    let profiles = (0..nodes).map(|index| drawn_node(&mut random, index, fair, (30, 200))).collect();
    let links: Vec<Link> = (0..nodes * nodes)
        .map(|_| Link { bandwidth: random.between(1, 1000) * 1_000_000, latency: Nanos(random.between(0, 300_000)) })
        .collect();
    let fleet = Fleet::new(profiles, |from, to| links[from * nodes as usize + to]);
    (card, fleet, goal)
}

/// Every order of every set of `0..nodes`, written independently of the search.
fn orders(nodes: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    for code in 1..(nodes + 1).pow(nodes as u32) {
        let digits: Vec<usize> = (0..nodes).map(|place| code / (nodes + 1).pow(place as u32) % (nodes + 1)).collect();
        let used = digits.iter().take_while(|digit| **digit > 0).count();
        let order: Vec<usize> = digits[..used].iter().map(|digit| digit - 1).collect();
        let distinct = (1..used).all(|at| !order[..at].contains(&order[at]));
        if used > 0 && digits[used..].iter().all(|digit| *digit == 0) && distinct {
            all.push(order);
        }
    }
    all
}

/// Every candidate without its residency: by whole layers, or by attention and MLP blocks.
fn for_each_ring(problem: &Problem<'_>, grain: Grain, mut visit: impl FnMut(Layout)) {
    let layers = problem.card.layers;
    let pieces = 2 * layers / grain.blocks();
    for order in orders(problem.fleet.nodes().len()) {
        let parts = order.len() as u32;
        for code in 0..u64::from(pieces).pow(parts) {
            let cut: Vec<u32> =
                (0..parts).map(|part| 1 + (code / u64::from(pieces).pow(part) % u64::from(pieces)) as u32).collect();
            if cut.iter().sum::<u32>() != pieces {
                continue;
            }
            let most = if parts == 1 { 1 } else { layers.max(problem.goal.segments.unwrap_or(1)) };
            for segments in 1..=most {
                for head in 0..order.len() {
                    for micro_batches in micro_batch_choices(problem.sequences, problem.fleet.nodes().len()) {
                        let share = |(&node, &pieces): (&usize, &u32)| {
                            let blocks = pieces * grain.blocks();
                            Share { node, blocks, streamed: Vec::new(), buffer: 0 }
                        };
                        let shares = order.iter().zip(&cut).map(share).collect();
                        let layout = Layout { shares, segments, grain, head, micro_batches };
                        if problem.allows(&layout) {
                            visit(layout);
                        }
                    }
                }
            }
        }
    }
}

/// Every residency of the devices from `at` on; only what plainly takes longer than `limit` says is skipped.
fn for_each_residency(
    problem: &Problem<'_>,
    layout: Layout,
    sets: &impl Fn(&Layout, usize) -> Vec<Choice>,
    at: usize,
    visit: &mut impl FnMut(Option<Layout>) -> u64,
) {
    if problem.floor(&layout) > visit(None) {
        return;
    }
    if at == layout.shares.len() {
        visit(Some(layout));
        return;
    }
    for choice in sets(&layout, at) {
        let mut tried = layout.clone();
        apply(&mut tried.shares[at], &choice);
        for_each_residency(problem, tried, sets, at + 1, visit);
    }
}

/// The least measure over everything that the search may choose; only a lower bound that beats nothing is skipped, and what is
/// slower than `known`, which is to be found again.
fn brute_force(problem: &Problem<'_>, known: Option<u64>, sets: impl Fn(&Layout, usize) -> Vec<Choice>) -> Option<u64> {
    let mut evaluator = Evaluator::new(u64::MAX);
    let mut least = |grain: Grain, known: Option<u64>| {
        let mut best: Option<u64> = None;
        for_each_ring(problem, grain, |layout| {
            for_each_residency(problem, layout, &sets, 0, &mut |found| {
                let time = found.and_then(|layout| Some(evaluator.measure(problem, layout)?.time));
                best = [best, time].into_iter().flatten().min();
                best.map(|best| best - 1).or(known).unwrap_or(u64::MAX)
            });
        });
        best
    };
    let whole = least(Grain::Layer, known);
    [whole, least(Grain::Block, known.into_iter().chain(whole).min())].into_iter().flatten().min()
}

/// The most merit of everything that is as good as `least`, one by one.
fn most_merit(problem: &Problem<'_>, least: u64) -> Merit {
    let judge = Judge::new(problem);
    let mut best: Option<Merit> = None;
    let mut evaluator = Evaluator::new(u64::MAX);
    for grain in [Grain::Layer, Grain::Block] {
        for_each_ring(problem, grain, |layout| {
            for_each_residency(problem, layout, &|layout, at| every_choice(problem, layout, at), 0, &mut |found| {
                let near = as_good_as(least);
                if let Some(evaluated) = found.and_then(|layout| evaluator.measure(problem, layout))
                    && evaluated.time <= near
                {
                    best = [best, judge.merit(&evaluated.layout, u64::MAX, &mut evaluator)].into_iter().flatten().min();
                }
                near
            });
        });
    }
    best.expect("the fastest is as good as itself")
}

/// The search's answer is the best by brute force: as good as the fastest, and of all those the one with most merit.
fn check_best(problem: &Problem<'_>, found: Option<&Found>, expected: Option<u64>, what: &str) {
    assert_eq!(found.map(|found| found.least), expected, "{what}");
    let Some(found) = found else { return };
    let best = &found.evaluated[0];
    assert!(best.time >= found.least && best.time <= as_good_as(found.least), "{what}: {} {}", best.time, found.least);
    let judged = Judge::new(problem).merit(&best.layout, u64::MAX, &mut Evaluator::new(u64::MAX));
    assert_eq!(judged, Some(found.merit), "{what}");
    assert_eq!(found.merit, most_merit(problem, found.least), "{what}");
    assert!(found.complete, "{what}: the search gave up");
}

fn known(found: &Option<Found>) -> Option<u64> {
    found.as_ref().map(|found| found.least)
}

fn every_choice(problem: &Problem<'_>, layout: &Layout, at: usize) -> Vec<Choice> {
    choices(problem, layout, at, &layout.stretches(problem.card.layers)[at], Effort::Every)
}

/// Every subset of a device's blocks, each with all the buffer that is left.
fn every_subset(problem: &Problem<'_>, layout: &Layout, at: usize) -> Vec<Choice> {
    let share = &layout.shares[at];
    let (first, head) = (at == 0, at == layout.head);
    let units = layout.units_of(at, problem.card.layers);
    let attentions = layout.attentions()[at];
    let held: u64 = units[usize::from(first)..].iter().map(|unit| problem.costs.bytes_held(*unit, first)).sum();
    let room = problem.room(share.node, attentions, first, head);
    let worst = problem.room_at_worst(share.node, attentions, first, head);
    let may = |unit: &Unit| {
        *unit != Unit::EMBEDDING && (*unit != Unit::head(problem.card.layers) || problem.head_streams(first))
    };
    let streamable: Vec<Unit> = units.iter().copied().filter(may).collect();
    let disk = problem.fleet.nodes()[share.node].disk_bandwidth.is_some();
    let subset = |code: u32| {
        let streamed: Vec<Unit> =
            streamable.iter().enumerate().filter(|(bit, _)| code >> bit & 1 == 1).map(|(_, unit)| *unit).collect();
        let bytes: u64 = streamed.iter().map(|unit| problem.costs.bytes[unit.index()]).sum();
        let fits = worst - (held - bytes) as i64;
        // Every block of a layer streamed, through a buffer that holds the largest: what remains when all steps are taken.
        let head_unit = Unit::head(problem.card.layers);
        let kept = if head && !streamed.contains(&head_unit) { problem.head_bytes(first) as i64 } else { 0 };
        let passing =
            units.iter().filter(|unit| **unit != Unit::EMBEDDING && (**unit != head_unit || streamed.contains(unit)));
        let largest = passing.map(|unit| problem.costs.bytes[unit.index()]).max().unwrap_or(0) as i64;
        let relieved =
            if disk && worst - kept >= largest { (room - (held - bytes) as i64).min(worst - kept) } else { fits };
        let buffer = u64::try_from(fits.max(relieved)).ok()?.min(bytes);
        let passes = streamed.iter().all(|unit| problem.costs.bytes[unit.index()] <= buffer);
        (passes && (streamed.is_empty() || disk)).then_some(Choice { streamed, buffer, bytes })
    };
    (0..1 << streamable.len()).filter_map(subset).collect()
}

fn compare(seeds: std::ops::Range<u64>, most_nodes: u64, most_layers: u64) {
    let (mut feasible, mut streamed, mut cut, mut only_cut) = (0, 0, 0, 0);
    for seed in seeds {
        let (card, fleet, goal) = draw(seed, most_nodes, most_layers);
        let problem = Problem::new(&card, &fleet, &goal);
        let found = find(&problem);
        let expected = brute_force(&problem, known(&found), |layout, at| every_choice(&problem, layout, at));
        check_best(&problem, found.as_ref(), expected, &format!("seed {seed}"));
        assert_eq!(fits(&problem), expected.is_some(), "seed {seed}: capacity");
        feasible += usize::from(expected.is_some());
        only_cut += usize::from(found.is_some() && capacity::some_ring(&problem).is_none());
        cut += usize::from(found.as_ref().is_some_and(|found| found.evaluated[0].layout.is_cut()));
        streamed += usize::from(
            found.is_some_and(|found| found.evaluated[0].layout.shares.iter().any(|share| !share.streamed.is_empty())),
        );
    }
    println!("{feasible} feasible, {streamed} of them stream, {cut} cut layers, {only_cut} fit by blocks alone");
    assert!(feasible > 0 && streamed > 0 && cut > 0, "the draw is too easy or too hard");
}

#[test]
fn equals_brute_force_on_small_fleets() {
    compare(0..120, 3, 5);
}

#[test]
fn equals_brute_force_on_four_devices_and_eight_layers() {
    compare(1000..1012, 4, 8);
}

#[test]
#[ignore = "minutes: many more cases of the same kind"]
fn equals_brute_force_at_length() {
    compare(2000..2300, 4, 8);
}

/// What even spreading costs against any subset of blocks: measured, and bounded loosely.
#[test]
fn even_spreading_is_close_to_any_subset() {
    let (mut worst, mut sum, mut cases) = (1.0_f64, 0.0, 0);
    for seed in 0..60 {
        let (card, fleet, goal) = draw(seed, 2, 4);
        let problem = Problem::new(&card, &fleet, &goal);
        let Some(found) = find(&problem).map(|found| found.least) else { continue };
        let Some(any) = brute_force(&problem, Some(found), |layout, at| every_subset(&problem, layout, at)) else {
            continue;
        };
        assert!(any <= found, "seed {seed}: subsets include the even ones");
        let ratio = time_of(found) as f64 / time_of(any) as f64;
        (worst, sum, cases) = (worst.max(ratio), sum + ratio, cases + 1);
    }
    println!(
        "even spreading against any subset: mean {:.4}, worst {worst:.4} over {cases} cases",
        sum / f64::from(cases)
    );
    assert!(worst < 1.5);
}

/// The wishes about the ring itself: drawn, and equal to brute force over what they allow.
#[test]
fn equals_brute_force_with_a_ring_that_is_asked_for() {
    let mut feasible = 0;
    for seed in 0..60 {
        let (card, fleet, mut goal) = draw(seed, 3, 5);
        let mut random = Random::new(seed ^ 0x5eed);
        let nodes = fleet.nodes().len() as u64;
        goal.segments = (random.between(0, 2) > 0).then(|| random.between(1, 3) as u32);
        goal.least_devices = random.between(1, nodes.min(u64::from(card.layers))) as u32;
        goal.most_devices =
            (random.between(0, 1) == 0).then(|| random.between(u64::from(goal.least_devices), nodes) as u32);
        goal.offload = if random.between(0, 3) == 0 { Offload::Always } else { Offload::Auto };
        let problem = Problem::new(&card, &fleet, &goal);
        let found = find(&problem);
        let expected = brute_force(&problem, known(&found), |layout, at| every_choice(&problem, layout, at));
        check_best(&problem, found.as_ref(), expected, &format!("seed {seed} {goal:?}"));
        let mut evaluated = found.iter().flat_map(|found| &found.evaluated);
        assert!(evaluated.all(|evaluated| problem.allows(&evaluated.layout)), "seed {seed}");
        if goal.offload == Offload::Auto {
            assert_eq!(fits(&problem), expected.is_some(), "seed {seed}: capacity");
        }
        feasible += usize::from(expected.is_some());
    }
    assert!(feasible > 10, "the draw is too hard: {feasible}");
}

/// Wishes for times are met where any candidate meets them: drawn around what the plan without them takes.
#[test]
fn equals_brute_force_with_times_that_are_wished_for() {
    let (mut feasible, mut changed) = (0, 0);
    for seed in 0..60 {
        let (card, fleet, mut goal) = draw(seed, 3, 5);
        let problem = Problem::new(&card, &fleet, &goal);
        let Some(free) = find(&problem) else { continue };
        let mut random = Random::new(seed ^ 0x715e);
        let first = problem.request.play(&fleet, &free.evaluated[0].layout, &mut Default::default()).unwrap().first;
        let mut around = |time: u64| Some(Nanos(time / 100 * random.between(60, 110)));
        (goal.wished_time_per_token, goal.wished_time_to_first_token) = match seed % 3 {
            0 => (around(free.evaluated[0].pass), None),
            1 => (None, around(first)),
            _ => (around(free.evaluated[0].pass), around(first)),
        };
        let problem = Problem::new(&card, &fleet, &goal);
        let found = find(&problem);
        let expected = brute_force(&problem, known(&found), |layout, at| every_choice(&problem, layout, at));
        check_best(&problem, found.as_ref(), expected, &format!("seed {seed} {goal:?}"));
        feasible += 1;
        changed += usize::from(found.is_some_and(|found| found.evaluated[0].layout != free.evaluated[0].layout));
    }
    println!("{feasible} feasible, {changed} changed by the wish");
    assert!(feasible > 10 && changed > 0, "the draw is too easy: {feasible} {changed}");
}
