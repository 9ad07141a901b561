//! The scheduler and the streams that hear of its tokens.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use lime_ring::{Restorable, proto::PassResult};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    intake::{Command, SequenceEvent, StreamFault},
    metrics::Metrics,
    schedule::{Completed, Drawn, Limits, OutOfTurn, PassRequest, QueueFull, Restart, Scheduler, SequenceId},
};

/// What the pass loop works with, whether a ring is there or not.
pub(crate) struct Dispatcher {
    scheduler: Scheduler,
    streams: HashMap<SequenceId, mpsc::UnboundedSender<SequenceEvent>>,
    metrics: Arc<Metrics>,
    /// Why nobody is served at the moment, where those who wait have been told.
    unavailable: Option<String>,
    /// When the passes on their way were sent, and when the last result came.
    sent: VecDeque<Instant>,
    heard: Option<Instant>,
}

impl Dispatcher {
    pub(crate) fn new(scheduler: Scheduler, metrics: Arc<Metrics>) -> Self {
        Self { scheduler, streams: HashMap::new(), metrics, unavailable: None, sent: VecDeque::new(), heard: None }
    }

    /// Does what HTTP asks.
    pub(crate) fn handle(&mut self, command: Command) {
        match command {
            Command::Admit { sequences, reply } => {
                let admitted = self.admit(sequences);
                // Who does not wait for the answer has dropped the handles too, which cancels the sequences.
                let _ = reply.send(admitted);
            }
            Command::Cancel(id) => {
                if self.streams.remove(&id).is_some() {
                    self.scheduler.cancel(id);
                    self.metrics.cancelled();
                }
            }
        }
        self.show();
    }

    /// The next pass to send, if there is one.
    pub(crate) fn next_pass(&mut self) -> Option<PassRequest> {
        let pass = self.scheduler.next_pass()?;
        self.metrics.pass(pass.tokens.len());
        self.sent.push_back(Instant::now());
        self.metrics.prefixes(self.scheduler.kept_pages(), self.scheduler.take_prefix_counts());
        Some(pass)
    }

    /// Nobody asks for anything at the moment.
    pub(crate) fn idle(&self) -> bool {
        self.scheduler.active() + self.scheduler.waiting() == 0
    }

    /// The last pass was not sent: the sequence in `slot` asks for what no try can give it, and ends with `cause`.
    pub(crate) fn take_back(&mut self, slot: u32, cause: &str) -> Result<(), OutOfTurn> {
        self.sent.pop_back();
        let refused = self.scheduler.take_back(slot)?;
        self.end(refused, StreamFault::Refused(cause.to_owned()));
        self.show();
        Ok(())
    }

    /// Ends every sequence with `cause`, and each that comes, until the ring serves.
    pub(crate) fn give_up(&mut self, cause: &str) {
        for id in self.scheduler.give_up_all() {
            self.end(id, StreamFault::Unavailable(cause.to_owned()));
        }
        self.unavailable = Some(cause.to_owned());
        self.show();
    }

    /// The ring serves.
    pub(crate) fn serves(&mut self) {
        self.unavailable = None;
    }

    fn end(&mut self, id: SequenceId, fault: StreamFault) {
        if let Some(stream) = self.streams.remove(&id) {
            let _ = stream.send(SequenceEvent::Failed(fault));
        }
    }

    /// Hands the tokens of a result to their streams.
    pub(crate) fn complete(&mut self, result: PassResult) -> Result<Completed, OutOfTurn> {
        let now = Instant::now();
        if let Some(sent) = self.sent.pop_front() {
            // One after the other: a pass waits for those before it.
            let began = self.heard.map_or(sent, |heard| heard.max(sent));
            self.scheduler.took(now.duration_since(began));
        }
        self.heard = Some(now);
        let (streams, metrics, mut drawn_tokens) = (&mut self.streams, &self.metrics, 0);
        let done = self.scheduler.complete(result, |drawn| {
            drawn_tokens += 1;
            metrics.guessed(drawn.guessed);
            let Drawn { id, token, finish, guessed, cached, scores, pooled } = drawn;
            let event = SequenceEvent::Drawn { token, finish, guessed, cached, scores, pooled };
            if let Some(stream) = streams.get(&id) {
                // A stream that is gone says so with a command of its own.
                let _ = stream.send(event);
            }
            if finish.is_some() {
                streams.remove(&id);
            }
        });
        self.metrics.drawn(drawn_tokens);
        for (id, misfit) in self.scheduler.take_misfits() {
            self.end(id, StreamFault::Refused(misfit.to_string()));
        }
        if let Ok(Completed::Refused(id, cause)) = &done {
            self.end(*id, StreamFault::Refused(cause.clone()));
        }
        self.give_up_outgrown();
        self.show();
        done
    }

    /// Goes on by another plan: every sequence is kept, but those for which it has no room.
    pub(crate) fn take_up(&mut self, limits: Limits) {
        self.sent.clear();
        self.scheduler.take_up(limits);
        self.give_up_outgrown();
        self.show();
    }

    /// What the devices of the ring that comes can restore.
    pub(crate) fn found(&mut self, devices: &[Restorable]) {
        self.scheduler.found(devices);
    }

    /// Makes every sequence ready for a ring that knows nothing; those that failed too often end with `cause`.
    pub(crate) fn restart(&mut self, why: Restart, cause: &str) {
        self.sent.clear();
        for id in self.scheduler.restart(why) {
            self.end(id, StreamFault::Failed(cause.to_owned()));
        }
        self.show();
    }

    /// Ends every stream.
    pub(crate) fn close(&mut self) {
        for (_, stream) in self.streams.drain() {
            let _ = stream.send(SequenceEvent::Failed(StreamFault::Stopping));
        }
    }

    fn admit(
        &mut self,
        sequences: Vec<(crate::schedule::NewSequence, mpsc::UnboundedSender<SequenceEvent>)>,
    ) -> Result<(), QueueFull> {
        let (wishes, streams): (Vec<_>, Vec<_>) = sequences
            .into_iter()
            .map(|(wish, stream)| {
                let id = wish.id;
                (wish, (id, stream))
            })
            .unzip();
        self.scheduler.admit(wishes)?;
        self.streams.extend(streams);
        self.give_up_outgrown();
        if let Some(cause) = self.unavailable.clone() {
            self.give_up(&cause);
        }
        Ok(())
    }

    /// Only where a plan has less room than the one by which a request was read.
    fn give_up_outgrown(&mut self) {
        let context = self.scheduler.context();
        for id in self.scheduler.outgrown() {
            self.end(id, StreamFault::Outgrown { context });
        }
    }

    fn show(&mut self) {
        self.metrics.sequences(self.scheduler.waiting(), self.scheduler.active());
        self.metrics.prefixes(self.scheduler.kept_pages(), self.scheduler.take_prefix_counts());
    }
}
