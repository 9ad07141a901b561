//! The scheduler: which rows of which sequences go into the next pass. Pure: data in, data out.
//!
//! A pass carries decode rows of the sequences under way and, beside them, up to one chunk of prefill rows, of one
//! sequence or of several. At most [`Limits::decode_groups`] passes with decode rows are on their way, so that sequences
//! travel together and weights are read once for all of them. Chunks of prefill follow each other without waiting for
//! results; only the last one of a sequence draws a token.
//!
//! Beside the row that is sure, a decode row's sequence may have rows of guesses (see [`crate::Speculation`]): those that are drawn need no
//! pass of their own. They take the room of prefill rows, never more than the plan has.

mod anew;
mod guessing;
mod passes;
#[cfg(test)]
mod prefix_tests;
mod prefixes;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod replan_tests;
mod restoring;
mod results;
mod sequence;
#[cfg(test)]
mod speculation_tests;
mod stored;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use lime_grammar::GrammarError;
use lime_plan::{Arithmetic, DeviceSteps, MemoryModel, Plan};
use lime_ring::{
    MAX_IN_FLIGHT, Restorable,
    proto::{FailureKind, KeepPages, RestoredPage, Rows, Token},
};
use thiserror::Error;

use guessing::Guessing;
use prefixes::Prefixes;
pub use prefixes::{KeyId, PrefixCache, PrefixCounts};
use restoring::Reads;
use sequence::Sequence;
pub use sequence::{Finish, NewSequence, Pooling, SequenceId};
pub(crate) use stored::Roots;

use crate::speculation::{NewDrafter, OwnText, Speculation};

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
    /// Whether passes keep apart, but for chunks of a prompt: one that draws nothing is followed by the next, up to `depth` of
    /// them, and meets the same streamed blocks in the same visits.
    pub chunks_together: bool,
    /// A sequence ends with an error after this many failed passes in a row.
    pub most_failures: u32,
    /// A sequence ends with an error when the ring was lost under it this often in a row.
    pub most_losses: u32,
    /// Tokens of the model.
    pub vocabulary: u32,
    /// Longest sequence in tokens, prompt and answer together.
    pub context: u32,
    /// Whether rows of one pass give the bits of rows that come one by one: only then do guesses change no answer.
    pub exact: bool,
    /// KV pages that every device holds before it takes a step; 0 where pages cannot be shared.
    pub kv_pages: u64,
}

impl Limits {
    /// The limits of a plan.
    pub fn of(plan: &Plan, queue: usize) -> Self {
        let streams = plan.streams();
        let groups = plan.micro_batches() as usize;
        Self {
            slots: plan.serving.max_concurrent_requests,
            chunk: plan.serving.prefill_chunk_tokens,
            queue,
            // One on each device, and one on its way to the first, where nothing keeps passes apart.
            depth: plan
                .prompt_passes()
                .map_or((plan.devices.len() + 1).max(groups), |passes| passes as usize)
                .min(MAX_IN_FLIGHT),
            decode_groups: groups,
            chunks_together: plan.chunks_travel_together(),
            ride_along: streams || plan.devices.len() == 1,
            most_failures: 3,
            most_losses: 10,
            vocabulary: plan.model.vocabulary,
            context: plan.longest_context(),
            exact: plan.arithmetic == Arithmetic::Exact,
            kv_pages: kv_pages(plan),
        }
    }
}

/// KV pages that every device of the plan holds before it takes a step; none where pages cannot be shared.
fn kv_pages(plan: &Plan) -> u64 {
    if plan.arithmetic == Arithmetic::Candle {
        return 0;
    }
    let memory = MemoryModel::of(plan);
    let all = u64::from(plan.serving.max_concurrent_requests) * u64::from(memory.pages_per_slot());
    let of_devices = plan.devices.iter().filter(|device| device.attentions() > 0).map(|device| {
        let base = DeviceSteps::of(plan, device).map_or(0, |steps| steps.base().0);
        base / memory.page_bytes(device.attentions()).0.max(1)
    });
    of_devices.fold(all, u64::min)
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
    /// Pages that are to be kept, before slots are released.
    pub keep: Vec<KeepPages>,
    /// Kept pages that may go.
    pub forget: Vec<u64>,
    /// Pages that were kept before, or are on disks, and are wanted again.
    pub restore: Vec<RestoredPage>,
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
    /// What became of guesses with it.
    pub guessed: Guessed,
    /// Tokens of the prompt that were not computed for this sequence.
    pub cached: u32,
    /// With the first token, how likely those of the prompt were, from the second on: where that was asked.
    pub scores: Vec<Token>,
    /// With the first token, the sum of the prompt's states: where that was asked.
    pub pooled: Vec<i64>,
}

/// Guesses that held and that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guessed {
    /// Tokens that were guessed, and drawn.
    pub held: u64,
    /// Guesses that were in vain.
    pub wrong: u64,
}

impl std::ops::AddAssign for Guessed {
    fn add_assign(&mut self, more: Self) {
        self.held += more.held;
        self.wrong += more.wrong;
    }
}

/// Why the ring must begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The oldest pass on its way failed.
    PassFailed,
    /// The ring is lost.
    RingLost,
    /// Weights are damaged, or may be: no sequence is to blame.
    Damaged,
}

/// What a result was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completed {
    /// It was taken in; the ring goes on.
    Taken,
    /// One sequence asks for what cannot be done, for the reason given. It is at its end, and the ring goes on without it.
    Refused(SequenceId, String),
    /// The pass has failed, and the ring must begin anew.
    Failed(FailureKind, String),
}

#[derive(Debug, Default)]
struct Flight {
    pass: u64,
    rows: Vec<Carried>,
    /// Slots that are released before the pass.
    release: Vec<u32>,
    keep: Vec<KeepPages>,
    forget: Vec<u64>,
    /// Kept pages that sequences of it begin behind.
    behind: Vec<u64>,
    /// Pages that are wanted again. Such a pass has no rows.
    restore: Vec<u64>,
    decodes: bool,
    /// Rows in all.
    total: u32,
}

/// Rows of a sequence in a pass on its way.
#[derive(Clone, Debug)]
struct Carried {
    slot: u32,
    start: u32,
    /// One past the last position, guesses included.
    end: u32,
    /// The slot begins anew with them, behind kept pages.
    begins_behind: bool,
    /// Whether the last row that is sure draws.
    draws: bool,
    /// Tokens of the prompt that it asks how likely they were.
    scored: u32,
    /// Whether it asks for the sum of states.
    pools: bool,
    /// What the rows after it guess.
    guesses: Vec<u32>,
}

impl Flight {
    fn carries(&self, slot: u32) -> bool {
        self.rows.iter().any(|rows| rows.slot == slot)
    }
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
    /// Passes sent since none was on its way.
    together: usize,
    clock: u64,
    guessing: Guessing,
    prefixes: Prefixes,
    /// Sequences whose grammar cannot be followed any further.
    misfits: Vec<(SequenceId, GrammarError)>,
    reads: Reads,
}

impl Scheduler {
    /// Nothing to do yet; nothing is guessed, and no prefix kept.
    pub fn new(limits: Limits) -> Self {
        Self::speculating(limits, Speculation::Off)
    }

    /// Nothing to do yet.
    pub fn speculating(limits: Limits, how: Speculation) -> Self {
        Self::guessing(limits, how, Arc::new(|prompt, prediction| Box::new(OwnText::new(prompt, prediction))))
    }

    /// The same, with guesses from elsewhere.
    pub(crate) fn guessing(limits: Limits, how: Speculation, source: NewDrafter) -> Self {
        Self {
            guessing: Guessing::new(how, source),
            limits,
            waiting: VecDeque::new(),
            active: Vec::with_capacity(limits.slots as usize),
            free: (0..limits.slots).rev().collect(),
            release: Vec::new(),
            flights: VecDeque::new(),
            passes: 0,
            together: 0,
            clock: 0,
            prefixes: Prefixes::new(PrefixCache::Off, limits.kv_pages),
            misfits: Vec::new(),
            reads: Reads::default(),
        }
    }

    /// Keeps prefixes as `cache` says.
    #[must_use]
    pub fn keeping(self, cache: PrefixCache) -> Self {
        Self { prefixes: Prefixes::new(cache, self.limits.kv_pages), ..self }
    }

    /// Gives what is kept names, by which it is found again when the ring begins anew.
    #[must_use]
    pub(crate) fn naming(mut self, names: Roots) -> Self {
        self.prefixes.named(names);
        self
    }

    /// What the devices of a ring that is ready have left of epochs before, or on their disks: of those alone that have KV caches.
    pub fn found(&mut self, devices: &[Restorable]) {
        self.prefixes.found(devices);
    }

    /// Pages that the ring keeps.
    pub fn kept_pages(&self) -> usize {
        self.prefixes.pages()
    }

    /// What happened to kept pages since this was asked last.
    pub fn take_prefix_counts(&mut self) -> PrefixCounts {
        self.prefixes.take_counts()
    }

    /// Sequences that came to their end since this was asked last because their grammar cannot be followed any further, and why.
    pub fn take_misfits(&mut self) -> Vec<(SequenceId, GrammarError)> {
        std::mem::take(&mut self.misfits)
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
        let new = |wish: NewSequence| {
            let source = self.guessing.source(&wish);
            Sequence::new(wish, source)
        };
        self.waiting.extend(wishes.into_iter().map(new));
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

    fn fill_slots(&mut self) {
        while let (false, Some(slot)) = (self.waiting.is_empty(), self.free.last().copied()) {
            let Some(mut sequence) = self.waiting.pop_front() else { return };
            self.free.pop();
            sequence.place(slot, self.clock);
            self.active.push(sequence);
        }
    }

    fn drop_cancelled(&mut self) {
        let (free, release, prefixes) = (&mut self.free, &mut self.release, &mut self.prefixes);
        self.active.retain_mut(|sequence| {
            let gone = sequence.cancelled && sequence.in_flight == 0;
            if gone {
                free.push(sequence.slot);
                release.push(sequence.slot);
                sequence.leave(prefixes);
            }
            !gone
        });
        self.fill_slots();
    }
}
