//! How many guesses go into the next pass.

use std::{fmt, time::Duration};

use lime_plan::KV_PAGE_TOKENS;
use lime_ring::MOST_DRAFTS;

use super::{NewSequence, Scheduler, sequence::Sequence};
use crate::speculation::{Costs, Drafter, Guesses, NewDrafter, Speculation, windows};

/// How tokens are guessed ahead.
pub(super) struct Guessing {
    how: Speculation,
    source: NewDrafter,
    costs: Costs,
}

impl Guessing {
    pub(super) fn new(how: Speculation, source: NewDrafter) -> Self {
        Self { how, source, costs: Costs::default() }
    }

    /// Where the guesses of a sequence come from; nowhere where nothing is guessed.
    pub(super) fn source(&self, wish: &NewSequence) -> Option<Box<dyn Drafter>> {
        (self.how != Speculation::Off).then(|| (self.source)(&wish.prompt, &wish.prediction))
    }

    /// Seconds that it takes to compute a page in passes of up to `chunk` rows, as far as that is known.
    pub(super) fn seconds_per_page(&self, chunk: u32) -> Option<f64> {
        let rows = chunk.max(1);
        Some(self.costs.of(rows)? / f64::from(rows) * f64::from(KV_PAGE_TOKENS))
    }

    /// What passes took says nothing any more: other devices have the blocks.
    pub(super) fn forget_costs(&mut self) {
        self.costs = Costs::default();
    }
}

impl fmt::Debug for Guessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guessing").field("how", &self.how).field("costs", &self.costs).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// The result of the oldest pass on its way took so long, its wait for those before it apart.
    pub fn took(&mut self, time: Duration) {
        match self.flights.front() {
            Some(flight) if !flight.restore.is_empty() => self.restored_in(time),
            Some(flight) if flight.total > 0 => self.guessing.costs.note(flight.total, time),
            Some(_) | None => {}
        }
    }

    /// How many guesses each of these sequences takes along.
    pub(super) fn guesses(&mut self, taken: &[usize]) -> Vec<usize> {
        let how = self.guessing.how;
        if how == Speculation::Off || !self.limits.exact || taken.is_empty() {
            return vec![0; taken.len()];
        }
        // Guesses take the room of prefill rows; half of it where there are such.
        let prefills = self.active.iter().any(Sequence::ready_to_prefill);
        let room = self.limits.chunk as usize / if prefills { 2 } else { 1 };
        let each = match how {
            Speculation::Window(tokens) => (tokens as usize).min(room / taken.len()),
            Speculation::Auto | Speculation::Off => room.min(MOST_DRAFTS),
        };
        let limits = self.limits;
        let guesses: Vec<Guesses> = taken.iter().map(|at| self.active[*at].guess(each, &limits)).collect();
        if matches!(how, Speculation::Window(_)) {
            return guesses.iter().map(|one| one.chances.len()).collect();
        }
        let rows = taken.len() as u32;
        windows(|rows| self.guessing.costs.of(rows), rows, rows, room, &guesses)
    }
}
