//! From a candidate to what people are told of it: times, shares, bounds and what binds.

use crate::cost::Costs;
use crate::layout::Layout;
use crate::period::{Period, Scratch, period, tally};
use crate::run::{Played, play};
use crate::schedule::{Feedback, Kind, Schedule};
use crate::search::Problem;
use crate::{Bytes, ContextPoint, DeviceShare, Nanos, Prediction};

/// Passes that are played before shares are read off.
pub(crate) const WARM_UP: usize = 24;

/// Everything that is predicted of a candidate.
pub(crate) fn predict(problem: &Problem<'_>, layout: &Layout) -> Option<Prediction> {
    let mut scratch = Scratch::default();
    let (schedule, steady) = problem.evaluate(layout, &mut scratch)?;
    let played = play(&schedule, WARM_UP);
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
        time_to_first_token: Nanos(first_token(problem, layout)?),
        prompt_tokens: problem.goal.prompt(),
        lower_bound: Nanos(problem.lower_bound(layout)),
        binds: binds(&schedule, &steady, &names),
        growth: contexts.into_iter().filter_map(at).collect(),
        devices: (0..layout.shares.len()).map(|at| share(problem, layout, &schedule, &played, at)).collect(),
    })
}

/// Time from a prompt on an idle ring to its first token: chunks follow each other round the ring.
fn first_token(problem: &Problem<'_>, layout: &Layout) -> Option<u64> {
    let (prompt, chunk) = (problem.goal.prompt(), problem.goal.serving.prefill_chunk_tokens);
    let rows = prompt.min(chunk);
    let costs = Costs::new(problem.card, problem.fleet, problem.goal, prompt / 2, [rows], 1);
    let single = Layout { micro_batches: 1, ..layout.clone() };
    // A chunk is one micro-batch of `rows` rows: hence as many sequences as rows.
    let schedule = Schedule::build(&costs, problem.fleet, &single, rows, Feedback::None)?;
    let chunks = prompt.div_ceil(rows) as usize;
    let simulated = chunks.min(WARM_UP);
    let played = play(&schedule, simulated);
    let mut time = played.end(&schedule, simulated - 1);
    if chunks > simulated {
        let steady = period(&schedule, 0, &mut Scratch::default());
        time += i64::try_from(steady.nanos()).ok()?.checked_mul((chunks - simulated) as i64)?;
    }
    u64::try_from(time).ok()
}

/// What one device does in the last pass that was played.
fn share(problem: &Problem<'_>, layout: &Layout, schedule: &Schedule, played: &Played, at: usize) -> DeviceShare {
    let (mut compute, mut disk, mut link, mut stall) = (0, 0, 0, 0);
    let last = played.ends.len() - 1;
    for (index, event) in schedule.events.iter().enumerate().filter(|(_, event)| event.at == at) {
        let duration = event.duration.max(0) as u64;
        match event.kind {
            Kind::Compute => {
                compute += duration;
                stall += waiting(schedule, played, last, index);
            }
            Kind::Load => disk += duration,
            Kind::Send => link += duration,
            Kind::Relay => {}
        }
    }
    let (from, to) = (played.end(schedule, last - 1), played.end(schedule, last));
    let busy = busy_within(schedule, played, at, from, to);
    let node = &problem.fleet.nodes()[layout.shares[at].node];
    let streamed: u64 = layout.shares[at].streamed.iter().map(|unit| problem.costs.bytes[unit.index()]).sum();
    DeviceShare {
        name: node.name.clone(),
        compute: Nanos(compute),
        disk: Nanos(disk),
        link: Nanos(link),
        stall: Nanos(stall),
        idle: Nanos(((to - from).max(0) as u64).saturating_sub(busy)),
        streamed: Bytes(streamed),
    }
}

/// How long an event that was otherwise ready waited for a load.
fn waiting(schedule: &Schedule, played: &Played, pass: usize, index: usize) -> u64 {
    let (mut loaded, mut ready) = (0, 0);
    for cause in schedule.causes(index) {
        let ended = played.ends[pass - cause.passes as usize][cause.from as usize] + cause.delay;
        if schedule.events[cause.from as usize].kind == Kind::Load {
            loaded = loaded.max(ended);
        } else {
            ready = ready.max(ended);
        }
    }
    (loaded - ready).max(0) as u64
}

/// Time between `from` and `to` in which any resource of the device works.
fn busy_within(schedule: &Schedule, played: &Played, at: usize, from: i64, to: i64) -> u64 {
    let mut spans: Vec<(i64, i64)> = Vec::new();
    let recent = played.ends.len().saturating_sub(3);
    for ends in &played.ends[recent..] {
        for (event, &end) in schedule.events.iter().zip(ends).filter(|(event, _)| event.at == at) {
            let span = ((end - event.duration).max(from), end.min(to));
            if span.0 < span.1 {
                spans.push(span);
            }
        }
    }
    spans.sort_unstable();
    let (mut busy, mut reached) = (0, from);
    for (start, end) in spans {
        busy += (end - start.max(reached)).max(0);
        reached = reached.max(end);
    }
    busy as u64
}

/// The critical circuit as a sentence.
fn binds(schedule: &Schedule, steady: &Period, names: &[&str]) -> String {
    let (spent, latency) = tally(schedule, steady);
    let total = (steady.time.max(1)) as u64;
    let percent = |time: u64| (time * 100 + total / 2) / total;
    let by = |wanted: Kind| spent.iter().filter(move |(kind, ..)| *kind == wanted);
    let sum = |wanted: Kind| by(wanted).map(|(.., time)| *time).sum::<u64>();
    let (compute, loads, sends) = (sum(Kind::Compute), sum(Kind::Load), sum(Kind::Send));
    let longest_of = |wanted: Kind| by(wanted).max_by_key(|(.., time)| *time).map_or("", |(_, at, _)| names[*at]);
    if percent(loads) >= 99 {
        return format!("the disk of {}", longest_of(Kind::Load));
    }
    let mut parts = Vec::new();
    if compute > 0 {
        let on = longest_of(Kind::Compute);
        parts.push((compute, format!("compute {} % (most on {on})", percent(compute))));
    }
    if loads > 0 {
        parts.push((loads, format!("waiting for the disk of {} {} %", longest_of(Kind::Load), percent(loads))));
    }
    if sends + latency > 0 {
        parts.push((sends + latency, format!("hops {} %", percent(sends + latency))));
    }
    parts.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    format!("the way of a token: {}", texts.join(", "))
}
