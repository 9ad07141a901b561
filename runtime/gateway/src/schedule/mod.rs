//! The scheduler: which rows of which sequences go into the next pass. Pure: data in, data out.
//!
//! A pass carries decode rows of the sequences under way and, beside them, up to one chunk of prefill rows, of one
//! sequence or of several. At most [`Limits::decode_groups`] passes with decode rows are on their way, so that sequences
//! travel together and weights are read once for all of them. Chunks of prefill follow each other without waiting for
//! results; only the last one of a sequence draws a token.

#[cfg(test)]
mod replan_tests;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use lime_planner::{Plan, Residency};
use lime_ring::{
    MAX_IN_FLIGHT,
    proto::{PassResult, Rows, Token},
};
use thiserror::Error;

use sequence::Sequence;
pub use sequence::{Finish, NewSequence, SequenceId};

use crate::status::context_of;

/// What the plan allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// KV slots; each holds a sequence of the longest context.
    pub slots: u32,
    /// Most prefill rows in a pass.
    pub chunk: u32,
    /// Sequences that may wait for a slot.
    pub queue: usize,
    /// Most passes on their way.
    pub depth: usize,
    /// Most passes with decode rows on their way.
    pub decode_groups: usize,
    /// Whether prefill waits for the next decode pass where one is on its way: so it is where a pass costs much beside
    /// its rows (weights are streamed for each), or where nothing runs at the same time (one device).
    pub ride_along: bool,
    /// A sequence ends with an error after this many failed passes in a row.
    pub most_failures: u32,
    /// A sequence ends with an error when the ring was lost under it this often in a row.
    pub most_losses: u32,
    /// Tokens of the model.
    pub vocabulary: u32,
    /// Longest sequence in tokens, prompt and answer together.
    pub context: u32,
}

impl Limits {
    /// The limits of a plan.
    pub fn of(plan: &Plan, queue: usize) -> Self {
        let placed = plan.devices.iter().flat_map(|device| &device.blocks);
        let streams = placed.clone().any(|placed| placed.residency == Residency::Streamed);
        let groups = plan.micro_batches() as usize;
        Self {
            slots: plan.serving.max_concurrent_requests,
            chunk: plan.serving.prefill_chunk_tokens,
            queue,
            // One on each device, and one on its way to the first.
            // Where weights are streamed in several visits, passes that overtake each other's visits would read them twice.
            depth: if streams && plan.segments > 1 { groups } else { (plan.devices.len() + 1).max(groups) }
                .min(MAX_IN_FLIGHT),
            decode_groups: groups,
            ride_along: streams || plan.devices.len() == 1,
            most_failures: 3,
            most_losses: 10,
            vocabulary: plan.model.vocabulary,
            context: context_of(plan),
        }
    }
}

/// Too many sequences wait already.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{waiting} sequences wait already, the queue holds {limit}")]
pub struct QueueFull {
    /// Sequences in the queue.
    pub waiting: usize,
    /// What it holds.
    pub limit: usize,
}

/// A result that does not fit what was sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the ring answered out of turn: {0}")]
pub struct OutOfTurn(String);

/// A pass to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassRequest {
    /// Rows by sequence.
    pub rows: Vec<Rows>,
    /// One token for each row.
    pub tokens: Vec<u32>,
    /// Slots whose KV entries may go.
    pub release: Vec<u32>,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Whose.
    pub id: SequenceId,
    /// The token.
    pub token: Token,
    /// Whether it was the last, and why.
    pub finish: Option<Finish>,
}

/// Why the ring must begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The oldest pass on its way failed.
    PassFailed,
    /// The ring is lost.
    RingLost,
}

#[derive(Debug)]
struct Flight {
    pass: u64,
    /// Slots with rows in the pass; true where the last row draws.
    rows: Vec<(u32, bool)>,
    decodes: bool,
}

/// The state of all sequences, waiting and under way.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    waiting: VecDeque<Sequence>,
    /// In order of admission.
    active: Vec<Sequence>,
    free: Vec<u32>,
    release: Vec<u32>,
    flights: VecDeque<Flight>,
    /// Passes sent since the ring began.
    passes: u64,
    clock: u64,
}

impl Scheduler {
    /// Nothing to do yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            active: Vec::with_capacity(limits.slots as usize),
            free: (0..limits.slots).rev().collect(),
            release: Vec::new(),
            flights: VecDeque::new(),
            passes: 0,
            clock: 0,
        }
    }

    /// Takes sequences of one request up: all or none of them.
    ///
    /// # Errors
    /// When they would overfill the queue.
    pub fn admit(&mut self, wishes: Vec<NewSequence>) -> Result<(), QueueFull> {
        let room = self.limits.queue + self.free.len();
        if self.waiting.len() + wishes.len() > room {
            return Err(QueueFull { waiting: self.waiting.len(), limit: self.limits.queue });
        }
        self.waiting.extend(wishes.into_iter().map(Sequence::new));
        self.fill_slots();
        Ok(())
    }

    /// Forgets a sequence that nobody wants any more; its slot is free as soon as no pass on its way has rows of it.
    pub fn cancel(&mut self, id: SequenceId) {
        self.waiting.retain(|wish| wish.id != id);
        if let Some(sequence) = self.active.iter_mut().find(|sequence| sequence.id == id) {
            sequence.cancelled = true;
        }
        self.drop_cancelled();
    }

    /// The next pass, or `None` where there is nothing to send before the next result.
    pub fn next_pass(&mut self) -> Option<PassRequest> {
        if self.flights.len() >= self.limits.depth {
            return None;
        }
        let mut pass = PassRequest::default();
        let mut flight = Flight { pass: self.passes + 1, rows: Vec::new(), decodes: false };
        if let Some(suspect) = self.active.iter().position(|sequence| sequence.suspect() && !sequence.cancelled) {
            self.take_alone(suspect, &mut pass, &mut flight);
        } else {
            self.take_decodes(&mut pass, &mut flight);
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
        self.passes += 1;
        self.flights.push_back(flight);
        Some(pass)
    }

    /// Takes the result of the oldest pass on its way; `drawn` hears of each token.
    ///
    /// # Errors
    /// A result that does not fit: the ring must begin anew.
    pub fn complete(&mut self, result: PassResult, mut drawn: impl FnMut(Drawn)) -> Result<(), OutOfTurn> {
        let flight = self.flights.pop_front().ok_or_else(|| OutOfTurn("no pass was on its way".into()))?;
        if result.pass != flight.pass {
            return Err(OutOfTurn(format!("pass {} where {} was next", result.pass, flight.pass)));
        }
        let mut tokens = result.tokens.into_iter();
        for (slot, draws) in flight.rows {
            let sequence = self.active.iter_mut().find(|sequence| sequence.slot == slot);
            let sequence = sequence.ok_or_else(|| OutOfTurn(format!("slot {slot} is free")))?;
            sequence.in_flight = sequence.in_flight.saturating_sub(1);
            if !draws {
                continue;
            }
            let token = tokens.next().ok_or_else(|| OutOfTurn(format!("no token for slot {slot}")))?;
            if token.slot != slot || token.token >= self.limits.vocabulary {
                let found = format!("token {} of slot {} for slot {slot}", token.token, token.slot);
                return Err(OutOfTurn(found));
            }
            if sequence.cancelled {
                continue;
            }
            let finish = sequence.push(token.token);
            // A finished sequence leaves as a cancelled one does.
            sequence.cancelled = finish.is_some();
            drawn(Drawn { id: sequence.id, token, finish });
        }
        self.drop_cancelled();
        Ok(())
    }

    /// Begins anew on a ring that knows nothing: every sequence will be prefilled from its prompt and its answer so far.
    /// Gives the sequences that have failed too often to go on.
    pub fn restart(&mut self, why: Restart) -> Vec<SequenceId> {
        self.blame(why);
        self.flights.clear();
        self.passes = 0;
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
        for mut sequence in self.active.drain(..).rev().filter(|sequence| !sequence.cancelled) {
            sequence.rewind();
            self.waiting.push_front(sequence);
        }
        self.free = (0..limits.slots).rev().collect();
        self.limits = limits;
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

    /// Longest sequence in tokens, prompt and answer together.
    pub fn context(&self) -> u32 {
        self.limits.context
    }

    /// Sequences without a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences with a slot.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Passes on their way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Marks who was in the pass that failed, or in the passes that were lost. Suspects then run alone, so that one bad
    /// request can neither hide behind its batch mates nor take them with it.
    fn blame(&mut self, why: Restart) {
        match why {
            Restart::PassFailed => {
                let failed = self.flights.front().map(|flight| flight.rows.as_slice()).unwrap_or_default();
                for sequence in &mut self.active {
                    sequence.failures += u32::from(failed.iter().any(|(slot, _)| *slot == sequence.slot));
                }
            }
            Restart::RingLost => {
                for sequence in &mut self.active {
                    sequence.losses += u32::from(sequence.in_flight > 0);
                }
            }
        }
    }

    fn take_alone(&mut self, suspect: usize, pass: &mut PassRequest, flight: &mut Flight) {
        let sequence = &mut self.active[suspect];
        let others = self.flights.iter().any(|flight| flight.rows.iter().any(|(slot, _)| *slot != sequence.slot));
        if !others && (sequence.ready_to_decode() || sequence.ready_to_prefill()) {
            flight.decodes = sequence.ready_to_decode();
            take(sequence, self.limits.chunk as usize, pass, flight);
        }
    }

    fn take_decodes(&mut self, pass: &mut PassRequest, flight: &mut Flight) {
        let groups = self.limits.decode_groups;
        if self.flights.iter().filter(|flight| flight.decodes).count() >= groups {
            return;
        }
        let decoding = self.active.iter().filter(|sequence| sequence.decoding() && !sequence.cancelled).count();
        let share = decoding.div_ceil(groups);
        let ready = self.active.iter_mut().filter(|sequence| sequence.ready_to_decode());
        for sequence in ready.take(share) {
            take(sequence, 1, pass, flight);
            flight.decodes = true;
        }
    }

    fn take_prefills(&mut self, pass: &mut PassRequest, flight: &mut Flight) {
        let mut room = self.limits.chunk as usize;
        while room > 0 {
            let carried = |sequence: &Sequence| flight.rows.iter().any(|(slot, _)| *slot == sequence.slot);
            let ready = self.active.iter_mut().filter(|sequence| sequence.ready_to_prefill() && !carried(sequence));
            let Some(sequence) = ready.min_by_key(|sequence| sequence.served) else { return };
            self.clock += 1;
            sequence.served = self.clock;
            room -= take(sequence, room, pass, flight);
        }
    }

    fn fill_slots(&mut self) {
        while let (false, Some(slot)) = (self.waiting.is_empty(), self.free.last().copied()) {
            let Some(mut sequence) = self.waiting.pop_front() else { return };
            self.free.pop();
            sequence.place(slot, self.clock);
            self.active.push(sequence);
        }
    }

    fn drop_cancelled(&mut self) {
        let (free, release) = (&mut self.free, &mut self.release);
        self.active.retain(|sequence| {
            let gone = sequence.cancelled && sequence.in_flight == 0;
            if gone {
                free.push(sequence.slot);
                release.push(sequence.slot);
            }
            !gone
        });
        self.fill_slots();
    }
}

/// Moves up to `most` rows of a sequence into a pass; gives their number.
fn take(sequence: &mut Sequence, most: usize, pass: &mut PassRequest, flight: &mut Flight) -> usize {
    let (rows, draws) = sequence.take_rows(most, &mut pass.tokens);
    let count = rows.count as usize;
    flight.rows.push((sequence.slot, draws));
    pass.rows.push(rows);
    count
}
