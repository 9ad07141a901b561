//! The time of a pass in steady state, exactly: the largest mean over all circuits of dependencies.
//!
//! Simulating until the schedule repeats can take hundreds of passes when a disk is only a little faster than
//! the ring. The same limit is the maximum cycle ratio of the event graph (time along a circuit over passes along it),
//! found here in a few sweeps: assume a ratio, let times grow along dependencies, and when a circuit keeps growing take
//! its ratio instead. The circuit that is left says what binds.

use crate::run::Ends;
use crate::schedule::{Dependency, EventKind, Schedule, Spare};

const NONE: u32 = u32::MAX;

/// Most sweeps before the search for the period gives up; ten are typical.
const MOST_SWEEPS: usize = 100_000;

/// Reusable space.
#[derive(Default)]
pub(crate) struct Scratch {
    times: Vec<i64>,
    dependency: Vec<u32>,
    dependency_weight: Vec<(i64, i64)>,
    mark: Vec<u32>,
    pub(crate) spare: Spare,
    pub(crate) ends: Ends,
}

/// The steady state of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// Nanoseconds along the critical circuit ...
    pub(crate) time: i64,
    /// ... and passes along it.
    pub(crate) passes: i64,
    /// The events of the critical circuit.
    pub(crate) circuit: Vec<u32>,
}

impl Period {
    /// Nanoseconds per pass, rounded up.
    pub(crate) fn nanos(&self) -> u64 {
        (self.time.max(0) as u64).div_ceil(self.passes.max(1) as u64)
    }
}

/// The period of `schedule`, which is at least `bound` nanoseconds (zero will do).
pub(crate) fn period(schedule: &Schedule, bound: u64, scratch: &mut Scratch) -> Period {
    let below = i64::try_from(bound.saturating_sub(1)).unwrap_or(0);
    settle_down(schedule, Period { time: below, passes: 1, circuit: Vec::new() }, false, scratch)
}

/// Whether the period is below `limit`: less work than finding it.
pub(crate) fn is_below(schedule: &Schedule, limit: u64, scratch: &mut Scratch) -> bool {
    let below = i64::try_from(limit.saturating_sub(1)).unwrap_or(i64::MAX >> 8);
    settle_down(schedule, Period { time: below, passes: 1, circuit: Vec::new() }, true, scratch).circuit.is_empty()
}

/// Sweeps until nothing grows; `once` stops at the first circuit that is longer than what was assumed.
fn settle_down(schedule: &Schedule, assumed: Period, once: bool, scratch: &mut Scratch) -> Period {
    let count = schedule.events.len();
    scratch.times.clear();
    scratch.times.resize(count, 0);
    scratch.dependency.clear();
    scratch.dependency.resize(count, NONE);
    scratch.dependency_weight.clear();
    scratch.dependency_weight.resize(count, (0, 0));
    let mut best = assumed;
    // Within a pass dependencies come first: a circuit goes through some dependency in a pass before.
    let mut wrapped = false;
    for _ in 0..MOST_SWEEPS {
        let Some(across) = sweep(schedule, &best, scratch) else { break };
        wrapped |= across;
        if !wrapped {
            continue;
        }
        if let Some(longer) = longest_circuit(&best, scratch) {
            // Times are kept in units of 1 / passes; any start will do, so rounding is harmless.
            for time in &mut scratch.times {
                *time = *time / best.passes * longer.passes;
            }
            scratch.dependency.fill(NONE);
            (best, wrapped) = (longer, false);
            if once {
                break;
            }
        }
    }
    best
}

/// Lets every time grow to what its dependencies ask for: `None` where none did, else whether any did for a dependency in a pass before.
fn sweep(schedule: &Schedule, assumed: &Period, scratch: &mut Scratch) -> Option<bool> {
    let (mut grew, mut across) = (false, false);
    for (index, event) in schedule.events.iter().enumerate() {
        let duration = event.duration;
        let mut time = scratch.times[index];
        for dependency in schedule.dependencies(index) {
            let weight = dependency.delay + duration;
            let candidate =
                scratch.times[dependency.from as usize] + weight * assumed.passes - dependency.passes * assumed.time;
            if candidate > time {
                time = candidate;
                scratch.dependency[index] = dependency.from;
                scratch.dependency_weight[index] = (weight, dependency.passes);
                grew = true;
                across |= dependency.passes > 0;
            }
        }
        scratch.times[index] = time;
    }
    grew.then_some(across)
}

/// The circuit of noted dependencies with the largest ratio, if that is larger than what was assumed.
fn longest_circuit(assumed: &Period, scratch: &mut Scratch) -> Option<Period> {
    let count = scratch.dependency.len();
    scratch.mark.clear();
    scratch.mark.resize(count, NONE);
    let mut best: Option<Period> = None;
    for start in 0..count {
        let mut at = start;
        while scratch.mark[at] == NONE && scratch.dependency[at] != NONE {
            scratch.mark[at] = start as u32;
            at = scratch.dependency[at] as usize;
        }
        if scratch.mark[at] != start as u32 || scratch.dependency[at] == NONE {
            continue;
        }
        let (mut time, mut passes, mut circuit) = (0, 0, Vec::new());
        let first = at;
        loop {
            let (weight, crossed) = scratch.dependency_weight[at];
            time += weight;
            passes += crossed;
            circuit.push(at as u32);
            at = scratch.dependency[at] as usize;
            if at == first {
                break;
            }
        }
        let beats =
            |other: &Period| i128::from(time) * i128::from(other.passes) > i128::from(other.time) * i128::from(passes);
        if passes > 0 && beats(assumed) && best.as_ref().is_none_or(beats) {
            circuit.reverse();
            best = Some(Period { time, passes, circuit });
        }
    }
    best
}

/// When every event of a pass ends once the steady state is reached, in units of 1 / `period.passes` nanoseconds after some event of
/// the critical circuit: the next pass does the same one period later.
pub(crate) fn steady_ends(schedule: &Schedule, period: &Period) -> Vec<i64> {
    let mut ends = vec![UNREACHED; schedule.events.len()];
    if let Some(first) = period.circuit.first().or(schedule.ends.first()) {
        ends[*first as usize] = 0;
    }
    // No circuit is longer than the critical one, so times stop growing.
    for _ in 0..MOST_SWEEPS {
        let mut grew = false;
        for (index, event) in schedule.events.iter().enumerate() {
            let reached = schedule.dependencies(index).filter(|dependency| ends[dependency.from as usize] > UNREACHED);
            let after = |dependency: Dependency| {
                ends[dependency.from as usize] + (dependency.delay + event.duration) * period.passes
                    - dependency.passes * period.time
            };
            let end = reached.map(after).max().unwrap_or(UNREACHED);
            grew |= end > ends[index];
            ends[index] = ends[index].max(end);
        }
        if !grew {
            break;
        }
    }
    ends
}

/// Before anything.
const UNREACHED: i64 = i64::MIN / 4;

/// Time along the critical circuit by what is done: compute, load, send and latency, the first two by position.
pub(crate) fn tally(schedule: &Schedule, period: &Period) -> (Vec<(EventKind, usize, u64)>, u64) {
    let mut spent: Vec<(EventKind, usize, u64)> = Vec::new();
    let mut total = 0;
    for &event in &period.circuit {
        let event = &schedule.events[event as usize];
        let duration = event.duration.max(0) as u64;
        total += duration;
        match spent.iter_mut().find(|(kind, at, _)| (*kind, *at) == (event.kind, event.at)) {
            Some((_, _, sum)) => *sum += duration,
            None => spent.push((event.kind, event.at, duration)),
        }
    }
    (spent, (period.time.max(0) as u64).saturating_sub(total))
}
