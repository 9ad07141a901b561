//! Rings that know nothing: after a failure, or by another plan. And the ends of those that cannot go on.

use super::{Limits, Restart, Scheduler, SequenceId};

impl Scheduler {
    /// Begins anew on a ring that knows nothing: every sequence will be prefilled from its prompt and its answer so far.
    /// Gives the sequences that have failed too often to go on.
    pub fn restart(&mut self, why: Restart) -> Vec<SequenceId> {
        self.blame(why);
        self.flights.clear();
        self.passes = 0;
        self.prefixes.clear(self.limits.kv_pages);
        let limits = self.limits;
        let mut given_up = Vec::new();
        for sequence in &mut self.active {
            sequence.rewind();
            let over = sequence.failures >= limits.most_failures || sequence.losses >= limits.most_losses;
            if over && !sequence.cancelled {
                sequence.cancelled = true;
                given_up.push(sequence.id);
            }
        }
        self.drop_cancelled();
        self.release.clear();
        given_up
    }

    /// Begins anew on the ring of another plan, with every sequence that is not at its end. Where it has fewer slots, those
    /// admitted last wait for one, before all others.
    pub fn take_up(&mut self, limits: Limits) {
        self.flights.clear();
        self.passes = 0;
        self.release.clear();
        self.prefixes.clear(limits.kv_pages);
        for mut sequence in self.active.drain(..).rev().filter(|sequence| !sequence.cancelled) {
            sequence.rewind();
            self.waiting.push_front(sequence);
        }
        self.free = (0..limits.slots).rev().collect();
        self.limits = limits;
        self.guessing.forget_costs();
        self.fill_slots();
    }

    /// Forgets the sequences that have no room for another token in the context, and gives them. Requests ask for no more than
    /// the context: there are such only where it has become smaller since.
    pub fn outgrown(&mut self) -> Vec<SequenceId> {
        let context = self.limits.context as usize;
        let mut outgrown = Vec::new();
        self.waiting.retain(|sequence| {
            let fits = sequence.length() < context;
            if !fits {
                outgrown.push(sequence.id);
            }
            fits
        });
        for sequence in self.active.iter_mut().filter(|sequence| sequence.length() >= context && !sequence.cancelled) {
            sequence.cancelled = true;
            outgrown.push(sequence.id);
        }
        if !outgrown.is_empty() {
            self.drop_cancelled();
        }
        outgrown
    }

    /// Forgets every sequence, waiting or under way, and gives them.
    pub fn give_up_all(&mut self) -> Vec<SequenceId> {
        let waiting = self.waiting.drain(..).map(|sequence| sequence.id);
        let mut given_up: Vec<SequenceId> = waiting.collect();
        for sequence in self.active.iter_mut().filter(|sequence| !sequence.cancelled) {
            sequence.cancelled = true;
            given_up.push(sequence.id);
        }
        self.drop_cancelled();
        given_up
    }

    /// Marks who was in the pass that failed, or in the passes that were lost. Suspects then run alone, so that one bad
    /// request can neither hide behind its batch mates nor take them with it.
    fn blame(&mut self, why: Restart) {
        match why {
            Restart::PassFailed => {
                let failed = self.flights.front().map(|flight| flight.rows.as_slice()).unwrap_or_default();
                for sequence in &mut self.active {
                    sequence.failures += u32::from(failed.iter().any(|rows| rows.slot == sequence.slot));
                }
            }
            Restart::RingLost => {
                for sequence in &mut self.active {
                    sequence.losses += u32::from(sequence.in_flight > 0);
                }
            }
            Restart::Damaged => {}
        }
    }
}
