//! From a candidate to what people are told of it: times, shares, bounds and what binds.

use crate::layout::Layout;
use crate::period::{Period, Scratch, steady_ends, tally};
use crate::schedule::{EventKind, Schedule};
use crate::search::Problem;
use lime_plan::{Bytes, ContextPoint, DeviceShare, Nanos, Prediction};

/// Everything that is predicted of a candidate.
pub(crate) fn predict(problem: &Problem<'_>, layout: &Layout) -> Option<Prediction> {
    let mut scratch = Scratch::default();
    let (schedule, steady) = problem.evaluate(layout, &mut scratch)?;
    let ends = steady_ends(&schedule, &steady);
    let prompted = problem.request.play(problem.fleet, layout, &mut scratch)?;
    let names: Vec<&str> = layout.shares.iter().map(|share| problem.fleet.nodes()[share.node].name.as_str()).collect();
    let most = problem.goal.serving.max_context_tokens;
    let at = |context: u32| {
        let other = Problem::at_context(problem.card, problem.fleet, problem.goal, context);
        let (_, steady) = other.evaluate(layout, &mut Scratch::default())?;
        Some(ContextPoint { context_tokens: context, time_per_token: Nanos(steady.nanos()) })
    };
    let mut contexts = vec![most / 8, most / 2, most];
    contexts.dedup();
    Some(Prediction {
        time_per_token: Nanos(steady.nanos()),
        sequences: problem.sequences,
        context_tokens: problem.goal.context(),
        time_to_first_token: Nanos(prompted.first),
        prompt_tokens: problem.goal.prompt(),
        answer_tokens: problem.goal.answer(),
        request_time: problem.request.total(steady.nanos(), prompted.all),
        lower_bound: Nanos(problem.lower_bound(layout)),
        binds: binds(&schedule, &steady, &names),
        growth: contexts.into_iter().filter_map(at).collect(),
        devices: (0..layout.shares.len()).map(|at| share(problem, layout, (&schedule, &steady), &ends, at)).collect(),
    })
}

/// What one device does in a pass of the steady state, whose events end at `ends`.
fn share(
    problem: &Problem<'_>,
    layout: &Layout,
    (schedule, steady): (&Schedule, &Period),
    ends: &[i64],
    at: usize,
) -> DeviceShare {
    let (mut compute, mut disk, mut link, mut stall) = (0, 0, 0, 0);
    for (index, event) in schedule.events.iter().enumerate().filter(|(_, event)| event.at == at) {
        let duration = event.duration.max(0) as u64;
        match event.kind {
            EventKind::Compute => {
                compute += duration;
                stall += waiting(schedule, steady, ends, index);
            }
            EventKind::Load => disk += duration,
            EventKind::Send => link += duration,
            EventKind::Relay => {}
        }
    }
    // Whole nanoseconds: what is left of one goes to the time in which nothing is to be done.
    let stall = stall / steady.passes.max(1) as u64;
    let node = &problem.fleet.nodes()[layout.shares[at].node];
    let streamed: u64 = layout.shares[at].streamed.iter().map(|unit| problem.costs.bytes[unit.index()]).sum();
    DeviceShare {
        name: node.name.clone(),
        compute: Nanos(compute),
        disk: Nanos(disk),
        link: Nanos(link),
        stall: Nanos(stall),
        idle: Nanos(steady.nanos().saturating_sub(compute + stall)),
        streamed: Bytes(streamed),
    }
}

/// How long an event that was otherwise ready waits for a load, in units of 1 / `steady.passes` nanoseconds.
fn waiting(schedule: &Schedule, steady: &Period, ends: &[i64], index: usize) -> u64 {
    let (mut loaded, mut ready) = (None, None);
    for dependency in schedule.dependencies(index) {
        let ended = ends[dependency.from as usize] + dependency.delay * steady.passes - dependency.passes * steady.time;
        let load = schedule.events[dependency.from as usize].kind == EventKind::Load;
        let latest = if load { &mut loaded } else { &mut ready };
        *latest = (*latest).max(Some(ended));
    }
    loaded.zip(ready).map_or(0, |(loaded, ready)| (loaded - ready).max(0) as u64)
}

/// The critical circuit as a sentence.
fn binds(schedule: &Schedule, steady: &Period, names: &[&str]) -> String {
    let (spent, latency) = tally(schedule, steady);
    let total = (steady.time.max(1)) as u64;
    let percent = |time: u64| (time * 100 + total / 2) / total;
    let by = |wanted: EventKind| spent.iter().filter(move |(kind, ..)| *kind == wanted);
    let sum = |wanted: EventKind| by(wanted).map(|(.., time)| *time).sum::<u64>();
    let (compute, loads, sends) = (sum(EventKind::Compute), sum(EventKind::Load), sum(EventKind::Send));
    let longest_of = |wanted: EventKind| by(wanted).max_by_key(|(.., time)| *time).map_or("", |(_, at, _)| names[*at]);
    if percent(loads) >= 99 {
        return format!("the disk of {}", longest_of(EventKind::Load));
    }
    let mut parts = Vec::new();
    if compute > 0 {
        let on = longest_of(EventKind::Compute);
        parts.push((compute, format!("compute {} % (most on {on})", percent(compute))));
    }
    if loads > 0 {
        parts.push((loads, format!("waiting for the disk of {} {} %", longest_of(EventKind::Load), percent(loads))));
    }
    if sends + latency > 0 {
        parts.push((sends + latency, format!("hops {} %", percent(sends + latency))));
    }
    parts.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    format!("the way of a token: {}", texts.join(", "))
}
