//! Which rows go into the next pass.

use lime_ring::MAX_IN_FLIGHT;

use super::{Flight, OutOfTurn, PassRequest, Prefixes, Scheduler, SequenceId, sequence::Sequence};

impl Scheduler {
    /// The next pass, or `None` where there is nothing to send before the next result.
    pub fn next_pass(&mut self) -> Option<PassRequest> {
        if self.flights.len() < MAX_IN_FLIGHT {
            self.ask_for_pages();
            if let Some(pass) = self.restoring() {
                return Some(pass);
            }
        }
        if self.with_rows().count() >= self.limits.depth || !self.may_join() {
            return None;
        }
        let mut pass = PassRequest::default();
        let mut flight = Flight { pass: self.passes + 1, ..Flight::default() };
        if let Some(suspect) = self.active.iter().position(|sequence| sequence.suspect() && !sequence.cancelled) {
            self.take_alone(suspect, &mut pass, &mut flight);
        } else {
            if !self.follows() {
                self.take_decodes(&mut pass, &mut flight);
            }
            if flight.decodes || !self.limits.ride_along || !self.flights.iter().any(|flight| flight.decodes) {
                self.take_prefills(&mut pass, &mut flight);
            }
        }
        if pass.rows.is_empty() {
            return None;
        }
        // A slot that begins anew in this very pass needs no release.
        let begun = |slot: &u32| pass.rows.iter().any(|rows| rows.slot == *slot);
        pass.release = std::mem::take(&mut self.release);
        pass.release.retain(|slot| !begun(slot));
        debug_assert_eq!(pass.rows.iter().map(|rows| rows.count as usize).sum::<usize>(), pass.tokens.len());
        flight.release.clone_from(&pass.release);
        flight.total = pass.tokens.len() as u32;
        // Sequences under way go first: what is only kept has the room that they leave.
        let own = self.active.iter().map(Sequence::own_pages).sum::<usize>();
        self.prefixes.make_room(own as u64);
        (pass.keep, pass.forget) = self.prefixes.take_orders();
        flight.keep.clone_from(&pass.keep);
        flight.forget.clone_from(&pass.forget);
        self.passes += 1;
        self.together = if self.with_rows().next().is_none() { 1 } else { self.together + 1 };
        self.flights.push_back(flight);
        Some(pass)
    }

    /// Whether the next pass follows others that it must keep to.
    fn follows(&self) -> bool {
        self.limits.chunks_together && self.with_rows().next().is_some()
    }

    /// The passes on their way that compute something.
    fn with_rows(&self) -> impl DoubleEndedIterator<Item = &Flight> {
        self.flights.iter().filter(|flight| flight.total > 0)
    }

    /// Whether a pass may go out beside those on their way.
    fn may_join(&self) -> bool {
        // One that comes when the first is back would meet blocks in other visits than the rest.
        let room = self.together < self.limits.depth;
        let last = self.with_rows().next_back();
        !self.follows()
            || room
                && last.is_some_and(|last| last.rows.iter().all(|rows| !rows.draws && rows.scored == 0 && !rows.pools))
    }

    /// The last pass was not sent: what the sequence in `slot` asks for can be done on no try. Gives that sequence, which is at its end;
    /// the rows of all others go into the next pass.
    ///
    /// # Errors
    /// Where the pass carries no such slot: the ring must begin anew.
    pub fn take_back(&mut self, slot: u32) -> Result<SequenceId, OutOfTurn> {
        let carries = self.flights.back().is_some_and(|flight| flight.carries(slot));
        let flight = self.flights.pop_back().filter(|_| carries);
        let flight = flight.ok_or_else(|| OutOfTurn(format!("slot {slot} is refused, and is in no pass")))?;
        self.passes -= 1;
        self.together = self.together.saturating_sub(1);
        self.release.splice(0..0, flight.release);
        self.prefixes.put_back(flight.keep, flight.forget);
        let mut refused = None;
        for rows in flight.rows {
            let Some(sequence) = self.active.iter_mut().find(|sequence| sequence.slot == rows.slot) else { continue };
            sequence.take_back(rows.start, rows.begins_behind, &mut self.prefixes);
            if rows.slot == slot {
                sequence.cancelled = true;
                refused = Some(sequence.id);
            }
        }
        self.drop_cancelled();
        refused.ok_or_else(|| OutOfTurn(format!("slot {slot} is free")))
    }

    fn take_alone(&mut self, suspect: usize, pass: &mut PassRequest, flight: &mut Flight) {
        let sequence = &mut self.active[suspect];
        let others = self.flights.iter().any(|flight| flight.rows.iter().any(|rows| rows.slot != sequence.slot));
        if !others && (sequence.ready_to_decode() || sequence.ready_to_prefill()) {
            flight.decodes = sequence.ready_to_decode();
            take(sequence, self.limits.chunk as usize, 0, &mut self.prefixes, pass, flight);
        }
    }

    fn take_decodes(&mut self, pass: &mut PassRequest, flight: &mut Flight) {
        let groups = self.limits.decode_groups;
        if self.flights.iter().filter(|flight| flight.decodes).count() >= groups {
            return;
        }
        let decoding = self.active.iter().filter(|sequence| sequence.decoding() && !sequence.cancelled).count();
        let share = decoding.div_ceil(groups);
        let ready = self.active.iter().enumerate().filter(|(_, sequence)| sequence.ready_to_decode());
        let taken: Vec<usize> = ready.map(|(at, _)| at).take(share).collect();
        let guesses = self.guesses(&taken);
        for (at, guesses) in taken.into_iter().zip(guesses) {
            take(&mut self.active[at], 1, guesses, &mut self.prefixes, pass, flight);
            flight.decodes = true;
        }
    }

    fn take_prefills(&mut self, pass: &mut PassRequest, flight: &mut Flight) {
        // A row that is sure has room of its own, whichever sequence's it is.
        let guesses: usize = flight.rows.iter().map(|rows| rows.guesses.len()).sum();
        let mut room = (self.limits.chunk as usize).saturating_sub(guesses);
        while room > 0 {
            let begun = self.with_rows().next_back().filter(|_| self.limits.chunks_together);
            let carried = |sequence: &Sequence| {
                let other = flight.rows.is_empty() && begun.is_some_and(|begun| !begun.carries(sequence.slot));
                other || flight.carries(sequence.slot)
            };
            let ready = |index: &usize| {
                let sequence = &self.active[*index];
                sequence.ready_to_prefill() && !carried(sequence) && !self.waits(*index)
            };
            let next = (0..self.active.len()).filter(ready).min_by_key(|index| self.active[*index].served);
            let Some(sequence) = next.map(|index| &mut self.active[index]) else { return };
            self.clock += 1;
            sequence.served = self.clock;
            room -= take(sequence, room, 0, &mut self.prefixes, pass, flight);
        }
    }

    /// Whether an earlier sequence computes what this one begins with: it waits, and begins behind that. The earliest never waits.
    fn waits(&self, index: usize) -> bool {
        let (before, from) = self.active.split_at(index);
        from.first().is_some_and(|sequence| {
            let computed = || before.iter().any(|before| sequence.waits_for(before, &self.prefixes));
            self.prefixes.awaits(&sequence.place) || computed()
        })
    }
}

/// Moves up to `most` rows of a sequence into a pass, and so many guesses with them; gives their number.
fn take(
    sequence: &mut Sequence,
    most: usize,
    guesses: usize,
    prefixes: &mut Prefixes,
    pass: &mut PassRequest,
    flight: &mut Flight,
) -> usize {
    let (rows, carried) = sequence.take_rows(most, guesses, prefixes, &mut pass.tokens);
    let count = rows.count as usize;
    flight.rows.push(carried);
    flight.behind.extend(&rows.prefix);
    pass.rows.push(rows);
    count
}
