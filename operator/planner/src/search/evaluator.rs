//! What a layout with its residency comes to, by simulation; a search counts what it simulates.

use crate::layout::{Layout, Stretch};
use crate::period::{Period, Scratch};
use crate::schedule::Schedule;

use super::problem::Problem;

/// A layout with its residency, and how fast it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evaluated {
    pub(crate) layout: Layout,
    /// What it is compared by: see [`super::request::Request::measure`].
    pub(crate) time: u64,
    /// Nanoseconds per pass.
    pub(crate) pass: u64,
    /// Nanoseconds until the prompts of all typical requests have passed.
    pub(crate) prompts: u64,
    /// Chunks of a prompt that travel together: see [`super::request::Prompted`].
    pub(crate) together: u32,
}

impl Evaluated {
    /// Order of preference: fast, whole layers, few devices, few segments and micro-batches, little read, then any
    /// fixed order.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        let layout = &self.layout;
        let streamed: u64 = layout.shares.iter().map(|share| share.streamed.len() as u64).sum();
        let shares: Vec<(usize, u32)> = layout.shares.iter().map(|share| (share.node, share.blocks)).collect();
        (self.time, layout.grain, shares.len(), layout.segments, layout.micro_batches, streamed, layout.head, shares)
    }
}

/// A device of a layout by itself: what it computes, and the time between its visits.
pub(super) struct Alone<'s> {
    pub(super) at: usize,
    pub(super) stretches: &'s [Stretch],
    pub(super) gaps: &'s [u64],
}

/// Evaluates layouts and counts simulated events, so that a search ends after as many on every machine.
pub(crate) struct Evaluator {
    left: u64,
    pub(crate) scratch: Scratch,
}

impl Evaluator {
    pub(crate) fn new(budget: u64) -> Self {
        Self { left: budget, scratch: Scratch::default() }
    }

    /// So many times as much.
    pub(crate) fn times(self, count: u64) -> Self {
        Self { left: self.left.saturating_mul(count), ..self }
    }

    #[cfg(test)]
    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn spent(&self) -> bool {
        self.left == 0
    }

    /// See [`Problem::alone`].
    pub(super) fn alone(&mut self, problem: &Problem<'_>, layout: &Layout, alone: &Alone<'_>) -> Option<u64> {
        let found = problem.alone(layout, alone.at, alone.stretches, alone.gaps, &mut self.scratch);
        self.left = self.left.saturating_sub(found.map_or(10, |(_, events)| events as u64 + 20));
        found.map(|(time, _)| time)
    }

    /// Whether a pass of `layout` takes less than `limit`.
    pub(crate) fn beats(&mut self, problem: &Problem<'_>, layout: &Layout, limit: u64) -> bool {
        let (beats, events) = problem.beats(layout, limit, &mut self.scratch);
        self.left = self.left.saturating_sub(events as u64 + 20);
        beats
    }

    /// See [`Problem::below`].
    pub(super) fn below(&mut self, problem: &Problem<'_>, layout: &Layout, limit: u64) -> Option<(Schedule, Period)> {
        let (found, events) = problem.below(layout, limit, &mut self.scratch);
        self.left = self.left.saturating_sub(events as u64 + 20);
        found
    }

    /// The candidate with its measure; `None` where it cannot make progress.
    pub(crate) fn measure(&mut self, problem: &Problem<'_>, layout: Layout) -> Option<Evaluated> {
        let pass = self.pass(problem, &layout)?;
        self.measure_with_pass(problem, layout, pass)
    }

    /// The same where the time of its pass is known.
    pub(crate) fn measure_with_pass(&mut self, problem: &Problem<'_>, layout: Layout, pass: u64) -> Option<Evaluated> {
        let found = problem.request.play(problem.fleet, &layout, &mut self.scratch)?;
        self.left = self.left.saturating_sub(found.events as u64 / 4 + 20);
        let time = problem.request.measure(pass, found.all, found.first);
        Some(Evaluated { layout, time, pass, prompts: found.all, together: found.together })
    }

    /// The time of a pass; `None` where the candidate cannot make progress.
    pub(crate) fn pass(&mut self, problem: &Problem<'_>, layout: &Layout) -> Option<u64> {
        let (schedule, period) = self.evaluate(problem, layout)?;
        self.scratch.spare.take_back(schedule);
        Some(period.nanos())
    }

    pub(crate) fn evaluate(&mut self, problem: &Problem<'_>, layout: &Layout) -> Option<(Schedule, Period)> {
        let found = problem.evaluate(layout, &mut self.scratch);
        let cost = found.as_ref().map_or(50, |(schedule, _)| schedule.events.len() as u64 + 20);
        self.left = self.left.saturating_sub(cost);
        found
    }
}
