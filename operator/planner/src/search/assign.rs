//! Residency for a layout whose layers are fixed: a first guess by formula, then whoever binds tries its other choices.

use crate::cost::nanos;
use crate::layout::{Grain, Layout, Share, Stretch};
use crate::period::Period;
use crate::schedule::Schedule;

use super::evaluator::{Alone, Evaluated, Evaluator};
use super::problem::Problem;
use super::residency::{Choice, Effort, apply, choices};
use super::thorough::is_thorough;

/// Rounds in which the binding devices try other choices, where it matters.
pub(crate) const THOROUGH: usize = 8;

/// What residency is assigned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// To beat the bound.
    Better,
    /// To go on from: on small fleets what is slower than the bound will do as well.
    Start,
}

/// The best residency found for `layout` in so many `rounds`, if its measure is below `bound`; `None` as well where a device
/// cannot hold its layers.
pub(crate) fn assign_residency(
    problem: &Problem<'_>,
    layout: &Layout,
    bound: u64,
    rounds: usize,
    evaluator: &mut Evaluator,
) -> Option<Evaluated> {
    assign_for(Aim::Better, problem, layout, bound, rounds, evaluator).filter(|found| found.time < bound)
}

/// As [`assign_residency`], for a place to go on from: what turns out to be slower than `bound` will do as well.
pub(crate) fn assign_start(
    problem: &Problem<'_>,
    layout: &Layout,
    bound: u64,
    rounds: usize,
    evaluator: &mut Evaluator,
) -> Option<Evaluated> {
    assign_for(Aim::Start, problem, layout, bound, rounds, evaluator)
}

fn assign_for(
    aim: Aim,
    problem: &Problem<'_>,
    layout: &Layout,
    bound: u64,
    rounds: usize,
    evaluator: &mut Evaluator,
) -> Option<Evaluated> {
    let mut layout = layout.clone();
    for share in &mut layout.shares {
        share.streamed.clear();
        share.buffer = 0;
    }
    if layout.shares.len() == 1 {
        (layout.segments, layout.head) = (1, 0);
    }
    if !layout.is_cut() {
        layout.grain = Grain::Layer;
    }
    let around = problem.lower_bound(&layout);
    if problem.floor(&layout) >= bound || !problem.allows(&layout) {
        return None;
    }
    let mut all: Vec<Vec<Choice>> = Vec::with_capacity(layout.shares.len());
    let stretches = layout.stretches(problem.card.layers);
    for (at, stretches) in stretches.iter().enumerate() {
        let found = choices(problem, &layout, at, stretches, Effort::Few);
        if found.is_empty() {
            return None;
        }
        all.push(found);
    }
    let gaps = problem.gaps(&layout);
    for (at, found) in all.iter().enumerate() {
        let best = if layout.micro_batches == 1 && found.len() > 1 {
            let alone = Alone { at, stretches: &stretches[at], gaps: &gaps[at] };
            best_alone(problem, &layout, &alone, found, around, evaluator)?
        } else {
            found.iter().min_by_key(|choice| (guess(problem, &layout, at, choice, around), choice.bytes))?
        };
        apply(&mut layout.shares[at], best);
    }
    if problem.floor(&layout) >= bound {
        return None;
    }
    // Prompts depend little on what streams: passes decide.
    let bound = problem.pass_below(&layout, bound);
    let (mut schedule, mut period) = evaluate_or_widen(problem, &mut layout, &all, &stretches, evaluator)?;
    let mut best = Passing { time: period.nanos(), layout };
    for _ in 0..rounds {
        let floor = problem.lower_bound(&best.layout);
        let before = best.time;
        for at in binding(&schedule, &period) {
            if all[at].len() < 2
                || best.time <= around
                || evaluator.spent()
                || !binding(&schedule, &period).contains(&at)
            {
                continue;
            }
            let node = best.layout.shares[at].node;
            let mut tried = best.layout.clone();
            for choice in &all[at] {
                let reading: u64 = choice.streamed.iter().map(|unit| problem.costs.load[node][unit.index()]).sum();
                if reading >= best.time || choice.streamed == best.layout.shares[at].streamed {
                    continue;
                }
                apply(&mut tried.shares[at], choice);
                if let Some((better, its_period)) = evaluator.below(problem, &tried, best.time) {
                    evaluator.scratch.spare.take_back(std::mem::replace(&mut schedule, better));
                    period = its_period;
                    best = Passing { time: period.nanos(), layout: tried.clone() };
                }
            }
        }
        // Rounds gain less and less: what would have to gain more than the one before is given up.
        let gained = before - best.time;
        if gained == 0 || best.time <= floor.min(around) || best.time.saturating_sub(bound) > gained {
            break;
        }
    }
    evaluator.scratch.spare.take_back(schedule);
    // Prompts are played for what may be of use alone: that takes longer than the passes did.
    if best.time >= bound && (aim == Aim::Better || !is_thorough(problem)) {
        return None;
    }
    let best = evaluator.measure_with_pass(problem, best.layout, best.time)?;
    if best.together > 1 || best.layout.segments == 1 || best.layout.micro_batches > 1 {
        return Some(best);
    }
    let together = with_whole_visits(problem, &best.layout, &all, &stretches, evaluator);
    Some(together.filter(|other| other.time < best.time).unwrap_or(best))
}

/// The same layout where what streams in a visit is in the buffer together, so that chunks of a prompt share it; `None`
/// where they do anyhow, or cannot.
fn with_whole_visits(
    problem: &Problem<'_>,
    layout: &Layout,
    all: &[Vec<Choice>],
    stretches: &[Vec<Stretch>],
    evaluator: &mut Evaluator,
) -> Option<Evaluated> {
    let mut layout = layout.clone();
    let mut changed = false;
    for (at, found) in all.iter().enumerate() {
        if visits_fit(problem, &layout.shares[at], &stretches[at]) {
            continue;
        }
        let fits = |choice: &&Choice| {
            let mut share = layout.shares[at].clone();
            apply(&mut share, choice);
            visits_fit(problem, &share, &stretches[at])
        };
        let choice = found.iter().find(fits)?;
        apply(&mut layout.shares[at], choice);
        changed = true;
    }
    if changed { evaluator.measure(problem, layout) } else { None }
}

/// A layout and the time of its pass.
struct Passing {
    layout: Layout,
    time: u64,
}

/// The devices on the critical circuit.
fn binding(schedule: &Schedule, period: &Period) -> Vec<usize> {
    let mut binding: Vec<usize> = period.circuit.iter().map(|&event| schedule.events[event as usize].at).collect();
    binding.sort_unstable();
    binding.dedup();
    binding
}

/// The choice with which this device delays the ring least if it is the only one that streams.
fn best_alone<'c>(
    problem: &Problem<'_>,
    layout: &Layout,
    alone: &Alone<'_>,
    found: &'c [Choice],
    around: u64,
    evaluator: &mut Evaluator,
) -> Option<&'c Choice> {
    let mut tried = layout.clone();
    let mut best: Option<(u64, &Choice)> = None;
    // In order of bytes: the first that delays nobody is the best there is.
    for choice in found {
        let node = layout.shares[alone.at].node;
        let reading: u64 = choice.streamed.iter().map(|unit| problem.costs.load[node][unit.index()]).sum();
        if best.is_some_and(|(time, _)| reading >= time) {
            continue;
        }
        apply(&mut tried.shares[alone.at], choice);
        let time = evaluator.alone(problem, &tried, alone);
        if let Some(time) = time.filter(|time| best.is_none_or(|(least, _)| *time < least)) {
            best = Some((time, choice));
            if time <= around {
                break;
            }
        }
    }
    best.map(|(_, choice)| choice)
}

/// Evaluates; where several micro-batches need whole visits in the buffer, takes the choices with the largest buffers.
fn evaluate_or_widen(
    problem: &Problem<'_>,
    layout: &mut Layout,
    all: &[Vec<Choice>],
    stretches: &[Vec<Stretch>],
    evaluator: &mut Evaluator,
) -> Option<(Schedule, Period)> {
    if let Some(found) = evaluator.evaluate(problem, layout) {
        return Some(found);
    }
    for (at, found) in all.iter().enumerate() {
        for choice in found {
            apply(&mut layout.shares[at], choice);
            if visits_fit(problem, &layout.shares[at], &stretches[at]) {
                break;
            }
        }
    }
    evaluator.evaluate(problem, layout)
}

/// Whether what streams in each visit fits into the buffer together.
fn visits_fit(problem: &Problem<'_>, share: &Share, stretches: &[Stretch]) -> bool {
    let mut streamed = share.streamed.iter().peekable();
    stretches.iter().all(|stretch| {
        let mut bytes = 0;
        while let Some(unit) = streamed.next_if(|unit| unit.0 < stretch.to) {
            bytes += problem.costs.bytes[unit.index()];
        }
        bytes <= share.buffer
    })
}

/// The time of a pass if this device alone had to stream: the disk's time, or the way round plus what is not yet read.
fn guess(problem: &Problem<'_>, layout: &Layout, at: usize, choice: &Choice, around: u64) -> u64 {
    let share = &layout.shares[at];
    if choice.streamed.is_empty() {
        return around;
    }
    let Some(disk) = problem.fleet.nodes()[share.node].disk_bandwidth else { return u64::MAX };
    let segments = u64::from(layout.segments);
    let reading = nanos(choice.bytes, disk);
    let ahead = choice.buffer.saturating_mul(segments);
    let layer = problem.costs.rows(problem.sequences.div_ceil(layout.micro_batches)).layer[share.node];
    let late = nanos(choice.bytes.saturating_sub(ahead), disk).saturating_sub(layer * u64::from(share.blocks) / 2);
    reading.max(around + late)
}
