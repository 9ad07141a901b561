//! One batch on this device: the plan's route, followed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
};

use bytes::Bytes;
use lime_plan::{Hop, PageName, SegmentIndex, Stage};
use lime_ring::{
    Checksummed as _, RingFault,
    proto::{Frame, PassResult, Pooled, Rows, Token},
};

use crate::{
    command::{Batch, Input},
    compute::{Compute, ComputeError, Draw, Scored},
    counters::Counters,
    session::Session,
    traces::Traced,
};

/// The engine, or why there is none.
pub(crate) type LoadedEngine = Result<Box<dyn Compute>, ComputeError>;

/// A batch being handled.
pub(crate) struct Visit<'a> {
    pub(crate) session: &'a Session,
    pub(crate) engine: &'a mut LoadedEngine,
    pub(crate) counters: &'a Counters,
    pub(crate) batch: Batch,
}

impl Visit<'_> {
    /// Does all that this device has to do for the batch and hands it on.
    pub(crate) fn run(mut self) {
        let session = self.session;
        let (plan, device) = (&session.plan, session.device);
        let last_visit = self.is_last();
        let traced = Traced::of(&self.batch);
        if self.batch.segment == 0 {
            self.arrive();
        }
        loop {
            let segment = SegmentIndex(self.batch.segment);
            match plan.stage(device, segment) {
                Stage::Blocks(segment) => self.blocks(segment),
                Stage::Head => break self.finish(),
                Stage::Forward => {}
            }
            match plan.hop(device, segment) {
                Hop::HeadHere => break self.finish(),
                Hop::Successor(next) => {
                    self.batch.segment = next.0;
                    // A ring of one device goes on by itself.
                    if let Some(queue) = session.to_successor() {
                        let frame = self.frame();
                        if let Err(full) = queue.push(frame) {
                            session.end(RingFault::failed(session.name(), &full.to_string()).caused_by(full));
                        }
                        break;
                    }
                }
            }
        }
        if let Some(traced) = traced {
            traced.end(session);
        }
        if last_visit {
            self.counters.passes.fetch_add(1, Ordering::Relaxed);
            session.pass_finished();
        }
    }

    /// Whether the batch will not come here again.
    fn is_last(&self) -> bool {
        let (plan, device) = (&self.session.plan, self.session.device);
        let devices = plan.devices.len() as u32;
        let head_apart = plan.head.0 + 1 != devices && device <= plan.head;
        let last = if head_apart { plan.segments } else { plan.segments - 1 };
        devices == 1 || self.batch.segment >= last
    }

    fn arrive(&mut self) {
        self.session.pass_began();
        if self.session.is_draining() && self.batch.failure.is_none() {
            self.fail(&ComputeError::new("draining, it takes no new passes"));
        }
        // Slots are released and pages kept whatever became of the pass: nobody says so again. A failure of its own stays the first.
        let failure = self.batch.failure.take();
        self.guarded(|engine, batch| {
            // Before slots are released: it is their pages that are to stay.
            for keep in &batch.keep {
                engine.keep(keep.slot, keep.first, &keep.pages, &names(keep.names.iter().map(|name| name.as_ref())));
            }
            batch.release.iter().for_each(|slot| engine.release(*slot));
            engine.forget(&batch.forget);
            let restored = names(batch.restore.iter().map(|page| page.name.as_ref()));
            let restored: Vec<_> = batch.restore.iter().map(|page| page.page).zip(restored).collect();
            if !restored.is_empty() {
                engine.restore(&restored);
            }
            Ok(())
        });
        self.batch.failure = failure.or(self.batch.failure.take());
        self.guarded(|engine, batch| {
            let mut behind = batch.rows.iter().filter(|rows| !rows.prefix.is_empty());
            behind.try_for_each(|rows| engine.begin_behind(rows.slot, &rows.prefix))
        });
    }

    /// Tells what this device has forgotten of kept pages. Nobody is told twice.
    fn tell_forgotten(&mut self) {
        let Ok(engine) = self.engine else { return };
        let forgotten = &mut self.batch.forgotten;
        forgotten.extend(engine.take_forgotten());
        forgotten.sort_unstable();
        forgotten.dedup();
        // Whoever is not told of one finds out when a sequence is to begin behind it.
        forgotten.truncate(self.session.limits.most_forgotten());
    }

    fn blocks(&mut self, segment: SegmentIndex) {
        let held = self.session.plan.devices.get(self.session.device.0 as usize);
        let idle = held.is_none_or(|device| device.range_in(segment).is_empty());
        if idle || self.batch.row_count == 0 || self.batch.failure.is_some() {
            return;
        }
        self.at_hand();
        // The gateway's side of this: a pass that asks nothing of the head carries a chunk of a prompt, and the next one comes right behind.
        let together = self.session.plan.chunks_travel_together();
        self.guarded(|engine, batch| {
            engine.followed(together && !batch.rows.iter().any(Rows::asks_head));
            let rows: Vec<_> = batch.rows.iter().map(Rows::batch_rows).collect();
            engine.forward(segment, &rows)
        });
    }

    /// Brings the batch into the engine.
    fn at_hand(&mut self) {
        if self.batch.failure.is_some() || self.batch.row_count == 0 {
            return;
        }
        self.guarded(|engine, batch| match std::mem::replace(&mut batch.input, Input::AtHand) {
            Input::Tokens(tokens) => engine.embed(&tokens),
            Input::Wire(wire) => engine.receive(batch.row_count as usize, &wire),
            Input::AtHand => Ok(()),
        });
    }

    /// The batch for the successor. What was not touched here goes on as it came.
    fn frame(&mut self) -> Frame {
        let limits = &self.session.limits;
        if matches!(self.batch.input, Input::Tokens(_)) {
            self.at_hand();
        }
        let activations = match std::mem::replace(&mut self.batch.input, Input::AtHand) {
            Input::Wire(wire) => wire,
            Input::AtHand if self.batch.row_count > 0 && self.batch.failure.is_none() => {
                self.guarded(|engine, _| engine.send()).unwrap_or_default()
            }
            Input::AtHand | Input::Tokens(_) => Bytes::new(),
        };
        self.tell_forgotten();
        let batch = &mut self.batch;
        let ComputeError { failure: why, text: failure, .. } = batch.failure.take().unwrap_or_default();
        let mut rows = std::mem::take(&mut batch.rows);
        if batch.segment > 0 {
            // By then every device has begun behind them.
            rows.iter_mut().for_each(|rows| rows.prefix = Vec::new());
        }
        Frame {
            epoch: self.session.epoch,
            pass: batch.pass,
            micro_batch: batch.micro_batch,
            segment: batch.segment,
            // Nobody computes with a pass that has failed.
            rows: if failure.is_empty() { rows } else { vec![] },
            // Every device meets segment 0 once: there slots are released, and pages kept.
            release: if batch.segment == 0 { std::mem::take(&mut batch.release) } else { vec![] },
            keep: if batch.segment == 0 { std::mem::take(&mut batch.keep) } else { vec![] },
            forget: if batch.segment == 0 { std::mem::take(&mut batch.forget) } else { vec![] },
            restore: if batch.segment == 0 { std::mem::take(&mut batch.restore) } else { vec![] },
            forgotten: std::mem::take(&mut batch.forgotten),
            activation_type: limits.activation_type() as i32,
            columns: limits.hidden,
            activations: if failure.is_empty() { activations } else { Bytes::new() },
            failure,
            failure_kind: why.kind().into(),
            refused_slot: why.refused_slot(),
            lost: String::new(),
            lost_by: String::new(),
            checksum: 0,
        }
    }

    fn finish(&mut self) {
        let (scores, pooled) = (self.score(), self.pool());
        let tokens = self.draw();
        self.tell_forgotten();
        let ComputeError { failure: why, text: failure, .. } = self.batch.failure.take().unwrap_or_default();
        let whole = failure.is_empty();
        let (tokens, scores, pooled) = if whole { (tokens, scores, pooled) } else { (vec![], vec![], vec![]) };
        let (epoch, pass) = (self.session.epoch, self.batch.pass);
        let (failure_kind, refused_slot) = (why.kind().into(), why.refused_slot());
        let forgotten = std::mem::take(&mut self.batch.forgotten);
        let result = PassResult {
            epoch,
            pass,
            tokens,
            failure,
            failure_kind,
            refused_slot,
            forgotten,
            scores,
            pooled,
            checksum: 0,
        };
        if !self.session.results.publish(result.sealed()) {
            let why = "nobody takes its results";
            self.session.end(RingFault::failed(self.session.name(), why));
        }
    }

    fn score(&mut self) -> Vec<Token> {
        if self.batch.rows.iter().all(|rows| rows.scoring.is_none()) {
            return vec![];
        }
        self.at_hand();
        let scored = self.guarded(|engine, batch| {
            engine.followed(false);
            let mut begin = 0;
            let mut scored = Vec::new();
            for rows in &batch.rows {
                if let Some(scoring) = &rows.scoring {
                    scored.push(Scored { slot: rows.slot, row: begin, scoring });
                }
                begin += rows.count as usize;
            }
            engine.score(&scored)
        });
        scored.unwrap_or_default()
    }

    fn pool(&mut self) -> Vec<Pooled> {
        if self.batch.rows.iter().all(|rows| rows.pooled == 0) {
            return vec![];
        }
        self.at_hand();
        let pooled = self.guarded(|engine, batch| {
            engine.followed(false);
            let (mut end, mut pooled) = (0, Vec::new());
            for rows in &batch.rows {
                end += rows.count as usize;
                let sure = end - rows.drafts.len();
                if rows.pooled > 0 {
                    let sums = engine.pool(sure - rows.pooled as usize..sure)?;
                    let sums = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect::<Vec<u8>>().into();
                    pooled.push(Pooled { slot: rows.slot, sums });
                }
            }
            Ok(pooled)
        });
        pooled.unwrap_or_default()
    }

    fn draw(&mut self) -> Vec<Token> {
        if self.batch.rows.iter().all(|rows| rows.sample.is_none()) {
            return vec![];
        }
        self.at_hand();
        let drawn = self.guarded(|engine, batch| {
            engine.followed(false);
            let mut end = 0;
            let mut draws = Vec::with_capacity(batch.rows.len());
            for rows in &batch.rows {
                end += rows.count as usize;
                if let Some(sampling) = &rows.sample {
                    let row = end - 1 - rows.drafts.len();
                    draws.push(Draw { slot: rows.slot, row, sampling, drafts: &rows.drafts });
                }
            }
            engine.draw(&draws)
        });
        drawn.unwrap_or_default()
    }

    /// Runs a step unless the pass has failed already; a failure or a panic fails the pass and not the worker.
    fn guarded<T>(&mut self, step: impl FnOnce(&mut dyn Compute, &mut Batch) -> Result<T, ComputeError>) -> Option<T> {
        if self.batch.failure.is_some() {
            return None;
        }
        let engine = match self.engine {
            Ok(engine) => engine,
            Err(error) => {
                let error = error.clone();
                self.fail(&error);
                return None;
            }
        };
        let batch = &mut self.batch;
        // A panicking engine is dropped below: nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| step(engine.as_mut(), batch))) {
            Ok(Ok(done)) => Some(done),
            Ok(Err(error)) => {
                self.fail(&error);
                None
            }
            Err(payload) => {
                let said = panic_message(payload.as_ref());
                let error = ComputeError::new(format!("the engine panicked ({said}); configure again"));
                self.fail(&error);
                *self.engine = Err(error);
                None
            }
        }
    }

    fn fail(&mut self, why: &ComputeError) {
        self.batch.failure = Some(why.clone().at(self.session.name()));
    }
}

/// Names as they came over the wire, which has checked that they are some.
fn names<'a>(bytes: impl Iterator<Item = &'a [u8]>) -> Vec<PageName> {
    bytes.map_while(|name| PageName::try_from(name).ok()).collect()
}

/// The message of a panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
