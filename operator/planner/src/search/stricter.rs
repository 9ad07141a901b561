//! The wish as it is and every stricter one: whatever a person could find by asking for so many devices, so many segments, nothing
//! from disk or room for the longest requests, the plain wish finds too.
//!
//! That holds because a wish is searched as the union of stricter ones, each of which is searched alike whoever asks: a number of
//! devices or of segments that is asked for leaves some of them out, and adds none.

use std::borrow::Cow;

use lime_plan::{Goal, NodeProfile, Offload};

use super::assign::{THOROUGH, assign_start};
use super::evaluator::{Evaluated, Evaluator};
use super::problem::Problem;
use super::request::more_by_part;
use super::thorough::MOST_NODES;
use super::{SEGMENTS, Searched, effort, search};

/// What the search may still do, and what is worth looking at.
struct Means {
    /// Whether every stricter wish is searched in full; else each number of devices, as far as the work goes.
    every: bool,
    evaluator: Evaluator,
}

impl Means {
    fn of(problem: &Problem<'_>) -> Self {
        let every = problem.fleet.nodes().len() <= MOST_NODES;
        Self { every, evaluator: effort(problem) }
    }

    /// Work for one more search.
    fn renew(&mut self, problem: &Problem<'_>) {
        if self.every {
            self.evaluator = effort(problem);
        }
    }

    /// Longer than `time` by as much as simulation is seen to differ from the formula: beyond, nothing is looked at.
    fn about(&self, time: u64) -> u64 {
        more_by_part(time, if self.every { 8 } else { 64 })
    }
}

/// What is found, the wish with most freedom first: whether that was everything, too.
pub(crate) fn search_each(problem: &Problem<'_>) -> Searched {
    let mut means = Means::of(problem);
    let mut found = Searched { evaluated: Vec::new(), complete: false };
    for (index, goal) in stricter(problem, &means).into_iter().enumerate() {
        let fastest = found.evaluated.iter().min_by_key(|one| one.time);
        let limit = fastest.map_or(u64::MAX, |one| means.about(one.time));
        if index < 2 {
            // Work of its own for what has most freedom, and then for all the rest.
            means.evaluator = effort(problem);
        }
        means.renew(problem);
        let Searched { evaluated, complete } = search(&problem.asked(&goal), limit, &mut means.evaluator);
        found.evaluated.extend(evaluated);
        if complete && *goal == *problem.goal {
            return Searched { complete, ..found };
        }
    }
    found.evaluated.extend(in_memory(problem, &found.evaluated));
    found
}

/// The wish itself where it leaves the ring open, and each number of devices and of segments that it leaves open.
fn stricter<'g>(problem: &Problem<'g>, means: &Means) -> Vec<Cow<'g, Goal>> {
    let goal = problem.goal;
    let (least, most) = (problem.least_devices() as u32, problem.most_devices() as u32);
    let any_count = least == 1 && most as usize == problem.fleet.nodes().len().min(problem.card.layers as usize);
    let mut all = Vec::new();
    // Small fleets are searched in full as they are.
    if any_count || !means.every || super::exhaustive::is_small(problem) {
        all.push(Cow::Borrowed(goal));
    }
    if goal.segments.is_none() || !any_count {
        let with_count = |count: u32| Goal { least_devices: count, most_devices: Some(count), ..goal.clone() };
        all.extend((least..=most).rev().map(|count| Cow::Owned(with_count(count))));
    }
    if goal.segments.is_none() && any_count && means.every {
        let with_segments = |count: u32| Goal { segments: Some(count), ..goal.clone() };
        let segments = SEGMENTS.into_iter().filter(|&count| count <= problem.card.layers);
        all.extend(segments.map(|count| Cow::Owned(with_segments(count))));
    }
    all
}

/// As if nothing could be read from disk.
fn in_memory(problem: &Problem<'_>, known: &[Evaluated]) -> Vec<Evaluated> {
    let reads = |node: &NodeProfile| node.disk_bandwidth.is_some();
    if problem.goal.offload != Offload::Auto || !problem.fleet.nodes().iter().any(reads) {
        return Vec::new();
    }
    let fleet = problem.fleet.map_nodes(|node| NodeProfile { disk_bandwidth: None, ..node.clone() });
    let problem = Problem::new(problem.card, &fleet, problem.goal);
    if !super::fits(&problem) {
        return Vec::new();
    }
    let mut means = Means::of(&problem);
    let mut found: Vec<Evaluated> = Vec::new();
    for goal in stricter(&problem, &means) {
        let fastest = known.iter().chain(&found).map(|one| one.time).min();
        means.renew(&problem);
        let limit = fastest.map_or(u64::MAX, |time| means.about(time));
        found.extend(search(&problem.asked(&goal), limit, &mut means.evaluator).evaluated);
        if !means.every {
            break;
        }
    }
    found
}

/// As if every request were at its longest, which takes about `known`: each with the room for that, and without. Only what takes
/// less than `near` as requests are expected is of use.
pub(crate) fn with_room_for_the_longest(problem: &Problem<'_>, near: u64, known: u64) -> Vec<Evaluated> {
    let most = problem.goal.serving.max_context_tokens;
    if problem.goal.context() >= most {
        return Vec::new();
    }
    // Prompts as good as left out: what passes take is what decides there.
    let goal = Goal {
        typical_context: Some(most),
        typical_answer: Some(u32::MAX),
        wished_time_per_token: None,
        wished_time_to_first_token: None,
        ..problem.goal.clone()
    };
    let longest = Problem::new(problem.card, problem.fleet, &goal);
    let mut means = Means::of(&longest);
    let mut evaluator = if means.every { Evaluator::new(u64::MAX) } else { effort(&longest).times(4) };
    let mut found = Vec::new();
    for goal in stricter(&longest, &means) {
        means.renew(&longest);
        for one in search(&longest.asked(&goal), means.about(known), &mut means.evaluator).evaluated {
            found.extend(assign_start(problem, &one.layout, near, THOROUGH, &mut evaluator));
            found.extend(evaluator.measure(problem, one.layout).filter(|one| one.time < near));
        }
        if !means.every {
            break;
        }
    }
    found
}
