//! How long typical requests take from their prompts to the ends of their answers: what candidates are compared by.
//!
//! A pass that takes long may belong to the plan that answers first, when prompts pass quickly, and the other way
//! round. So the measure is both together, written as the time of a pass with its share of the prompts: what a request
//! takes, divided by the tokens of its answer. It grows with either part, so that bounds of the parts are bounds of the
//! whole.

use crate::cost::{Costs, micro_batch_rows};
use crate::layout::Layout;
use crate::period::{Scratch, period};
use crate::run::pace;
use crate::schedule::{Feedback, Schedule};
use lime_plan::{Fleet, Goal, MOST_PROMPT_PASSES, ModelCard, Nanos, prompt_passes};

/// Passes of prompts that are played; from then on the steady state is believed.
const WARM_UP: u32 = 24;

/// Wishes that are missed are counted above this bit, the measure is below.
const MISSED: u32 = 60;

/// The largest measure: no time that a search knows is longer.
const LONGEST: u64 = (1 << MISSED) - 1;

/// Candidates that take so many percent more than the fastest are as good as it is: predictions are no better than
/// that.
const AS_GOOD: u64 = 1;

/// What is asked of a ring in the expected case, and what its prompts cost.
pub(crate) struct Request {
    /// Tokens of an answer.
    answer: u64,
    /// Rows of a chunk, chunks of a prompt, and prompts that come at once.
    rows: u32,
    chunks: u32,
    prompts: u32,
    /// Most chunks of a prompt that may travel together where each would wait for the one before.
    most_together: u32,
    costs: Costs,
    wished_pass: u64,
    wished_first: u64,
}

/// When prompts that come to an idle ring have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prompted {
    /// From a prompt to its first token.
    pub(crate) first: u64,
    /// From as many prompts as the goal expects at once to the first token of the last.
    pub(crate) all: u64,
    /// Chunks of a prompt that are on their way at once and meet each streamed block together; one where none wait for
    /// each other or each waits for the one before.
    pub(crate) together: u32,
    /// Events that were played.
    pub(crate) events: usize,
}

impl Request {
    pub(crate) fn new(card: &ModelCard, fleet: &Fleet, goal: &Goal) -> Self {
        let prompt = goal.prompt();
        let chunks = prompt.div_ceil(goal.serving.prefill_chunk_tokens.max(1));
        // The chunks of a prompt are as good as alike: the last is shorter, and each before it a little longer than this.
        let rows = prompt.div_ceil(chunks);
        let wished = |wish: Option<Nanos>| wish.map_or(u64::MAX, |wish| wish.0);
        Self {
            answer: u64::from(goal.answer()),
            rows,
            chunks,
            prompts: goal.sequences(),
            most_together: MOST_PROMPT_PASSES,
            costs: Costs::new(card, fleet, goal, prompt / 2, [rows], 1),
            wished_pass: wished(goal.wished_time_per_token),
            wished_first: wished(goal.wished_time_to_first_token),
        }
    }

    /// The same on rings where so many chunks of a prompt may travel together.
    pub(crate) fn together(self, most: u32) -> Self {
        Self { most_together: most, ..self }
    }

    /// Costs of a chunk.
    pub(crate) fn costs(&self) -> &Costs {
        &self.costs
    }

    pub(crate) const fn rows(&self) -> u32 {
        self.rows
    }

    /// The measure of a pass that takes so long, after prompts that take so long.
    pub(crate) fn measure(&self, pass: u64, prompts: u64, first: u64) -> u64 {
        let missed = u64::from(pass > self.wished_pass) + u64::from(first > self.wished_first);
        (missed << MISSED) | pass.saturating_add(prompts / self.answer).min(LONGEST)
    }

    /// A measure of nothing less than which prompts that take so long at the least can be, whatever a pass takes: what
    /// passes must take less than for the measure to be below `limit`.
    pub(crate) fn pass_below(&self, limit: u64, prompts: u64, first: u64) -> u64 {
        let share = prompts / self.answer;
        let (most_missed, most) = (limit >> MISSED, limit & LONGEST);
        let missed = u64::from(first > self.wished_first);
        let within = most.saturating_sub(share);
        match most_missed.checked_sub(missed) {
            None => 0,
            Some(0) => within.min(self.wished_pass.saturating_add(1)),
            Some(1) if self.wished_pass < u64::MAX => within.max(self.wished_pass.saturating_add(1)),
            Some(_) => u64::MAX,
        }
    }

    /// What no schedule of the prompts can beat where a chunk's way takes `chain` and the busiest resource is busy with
    /// it for `busy`: as [`Prompted::all`] and [`Prompted::first`].
    pub(crate) fn floor(&self, chain: u64, busy: u64) -> (u64, u64) {
        let all = |chunks: u64| chain.max(busy.saturating_mul(chunks));
        let chunks = u64::from(self.chunks);
        (all(chunks.saturating_mul(u64::from(self.prompts))), all(chunks))
    }

    /// What so much time for each chunk adds to a measure.
    pub(crate) fn share(&self, chunk: u64) -> u64 {
        let chunks = u64::from(self.chunks) * u64::from(self.prompts);
        chunk.saturating_mul(chunks) / self.answer
    }

    /// What a formula expects of prompts: as [`Self::floor`], where chunks wait for each other or do not.
    pub(crate) fn guess(&self, chain: u64, busy: u64, streams: bool) -> (u64, u64) {
        let all = |chunks: u64| match streams {
            false => chain.saturating_add(busy.saturating_mul(chunks - 1)),
            true => {
                let together = u64::from(self.most_together).min(chunks);
                let wave = chain.max(busy.saturating_mul(together));
                wave.saturating_mul(chunks.div_ceil(together)).saturating_add(busy)
            }
        };
        let chunks = u64::from(self.chunks);
        (all(chunks.saturating_mul(u64::from(self.prompts))), all(chunks))
    }

    /// Plays the prompts on a candidate; `None` where it cannot make progress.
    pub(crate) fn play(&self, fleet: &Fleet, layout: &Layout, scratch: &mut Scratch) -> Option<Prompted> {
        let streams = layout.shares.iter().any(|share| !share.streamed.is_empty());
        let flight = prompt_passes(streams, layout.segments, layout.micro_batches);
        let all = self.chunks.saturating_mul(self.prompts);
        let Some(passes) = flight else {
            return self.play_together(fleet, layout, Feedback::None, (1, self.chunks, all), scratch);
        };
        if passes > 1 {
            let together = passes.min(all);
            let waves = |chunks: u32| chunks.div_ceil(together);
            return self.play_together(
                fleet,
                layout,
                Feedback::Token,
                (together, waves(self.chunks), waves(all)),
                scratch,
            );
        }
        let alone = self.play_together(fleet, layout, Feedback::Token, (1, self.chunks, all), scratch)?;
        // As even as waves of one prompt can be.
        let waves = self.chunks.div_ceil(self.most_together.max(1));
        let together = self.chunks.div_ceil(waves);
        let all = waves.saturating_mul(self.prompts);
        let faster = (together > 1)
            .then(|| self.play_together(fleet, layout, Feedback::Token, (together, waves, all), scratch))
            .flatten()
            .filter(|one| one.all < alone.all);
        Some(faster.map_or(alone, |one| Prompted { events: one.events + alone.events, ..one }))
    }

    /// The same with so many chunks in each pass of the schedule, as its micro-batches, and so many passes for a prompt
    /// and for all.
    fn play_together(
        &self,
        fleet: &Fleet,
        layout: &Layout,
        feedback: Feedback,
        (together, first, all): (u32, u32, u32),
        scratch: &mut Scratch,
    ) -> Option<Prompted> {
        let layout = Layout { micro_batches: together, ..layout.clone() };
        // A chunk is a micro-batch of `rows` rows: hence as many sequences as rows.
        let rows = self.rows.saturating_mul(together);
        debug_assert!(micro_batch_rows(rows, together).all(|each| each == self.rows));
        let schedule = Schedule::build(&self.costs, fleet, &layout, rows, feedback, &mut scratch.spare)?;
        let simulated = all.min((WARM_UP / together).max(2));
        let pace = pace(&schedule, first.min(simulated) as usize, simulated as usize, &mut scratch.ends);
        let steady = (all > simulated).then(|| period(&schedule, 0, scratch).nanos());
        let end = |ended: i64, passes: u32| {
            let time = u64::try_from(ended).unwrap_or(0);
            // Beyond three centuries one wait is like another.
            let more = u64::from(passes.saturating_sub(simulated));
            time.saturating_add(steady.unwrap_or(0).saturating_mul(more)).min(LONGEST)
        };
        let (first, all) = (end(pace.first, first), end(pace.last, all));
        let found = Prompted { first, all, together, events: schedule.events.len() * pace.played };
        scratch.spare.take_back(schedule);
        Some(found)
    }

    /// What all requests take together by a measure.
    pub(crate) fn of_measure(&self, measure: u64) -> Nanos {
        Nanos((measure & LONGEST).saturating_mul(self.answer))
    }

    /// What all requests take together with passes of `pass`.
    pub(crate) fn total(&self, pass: u64, prompts: u64) -> Nanos {
        Nanos(prompts.saturating_add(pass.saturating_mul(self.answer)))
    }
}

/// The largest measure that is as good as `least`.
pub(crate) const fn as_good_as(least: u64) -> u64 {
    more_by(least, (least & LONGEST) / 100 * AS_GOOD)
}

/// A measure and so much more, with as many wishes missed.
pub(crate) const fn more_by(measure: u64, more: u64) -> u64 {
    let time = (measure & LONGEST).saturating_add(more);
    (measure & !LONGEST) | if time < LONGEST { time } else { LONGEST }
}

/// A measure and so large a part of it more.
pub(crate) const fn more_by_part(measure: u64, part: u64) -> u64 {
    more_by(measure, (measure & LONGEST) / part)
}

/// The time in a measure, whatever wishes are missed.
#[cfg(test)]
pub(crate) const fn time_of(measure: u64) -> u64 {
    measure & LONGEST
}
