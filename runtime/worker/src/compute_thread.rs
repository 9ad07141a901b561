//! The compute thread: it alone owns the engine, and takes requests in order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use lime_engine::PageKeeper;
use lime_plan::{Bytes as Size, DeviceIndex};
use lime_ring::{RingFault, proto::ConfigureProgress};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    command::{Command, ProgressSender, Taken},
    compute::{ComputeError, Loader, Mended},
    counters::Counters,
    pass::{LoadedEngine, Visit, panic_message},
    pressure::watch::Press,
    session::Session,
    vitals::{Doing, Vitals},
};

/// What the thread holds.
pub(crate) struct ComputeThread {
    loader: Box<dyn Loader>,
    counters: Arc<Counters>,
    vitals: Arc<Vitals>,
    stopping: CancellationToken,
    loaded: Option<LoadedPlan>,
    press: Press,
}

struct LoadedPlan {
    epoch: u64,
    plan_json: Bytes,
    device: DeviceIndex,
    engine: LoadedEngine,
}

/// Has an engine leave memory to others. What it could not do, it tries again with its next pass.
fn pressed(mut engine: Box<dyn crate::compute::Compute>, press: &Press) -> LoadedEngine {
    // A panicking engine is dropped here: nobody sees what it left half done.
    match catch_unwind(AssertUnwindSafe(|| engine.press(press.shortage, &press.why))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, why = press.why, "memory could not be left to others yet"),
        Err(payload) => {
            let said = panic_message(payload.as_ref());
            return Err(ComputeError::new(format!("the engine panicked ({said}); configure again")));
        }
    }
    Ok(engine)
}

/// Has an engine compare all that it uses with its digests, and mend it.
fn verified(engine: &mut LoadedEngine) -> Result<Mended, ComputeError> {
    let Ok(compute) = engine else { return Ok(Mended::default()) };
    // A panicking engine is dropped here: nobody sees what it left half done.
    match catch_unwind(AssertUnwindSafe(|| compute.verify())) {
        Ok(verified) => verified,
        Err(payload) => {
            let error =
                ComputeError::new(format!("comparing its blocks panicked: {}", panic_message(payload.as_ref())));
            *engine = Err(error.clone());
            Err(error)
        }
    }
}

/// Has an engine go on with what it does while no pass is there; whether some of it is left.
fn spilled(engine: &mut LoadedEngine) -> bool {
    let Ok(compute) = engine else { return false };
    // A panicking engine is dropped here: nobody sees what it left half done.
    match catch_unwind(AssertUnwindSafe(|| compute.spill())) {
        Ok(left) => left,
        Err(payload) => {
            let said = panic_message(payload.as_ref());
            *engine = Err(ComputeError::new(format!("the engine panicked ({said}); configure again")));
            false
        }
    }
}

/// Between two looks at whether the disk takes more.
const A_LITTLE_LATER: Duration = Duration::from_millis(2);

/// Unwinds out of a load that nobody waits for any more.
struct LoadCutShort;

impl ComputeThread {
    pub(crate) fn new(
        loader: Box<dyn Loader>,
        counters: Arc<Counters>,
        vitals: Arc<Vitals>,
        stopping: CancellationToken,
    ) -> Self {
        Self { loader, counters, vitals, stopping, loaded: None, press: Press::default() }
    }

    /// Handles requests until told to stop.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.vitals.this_is_the_thread();
        let vitals = self.vitals.clone();
        let mut spilling = false;
        loop {
            let begin = Instant::now();
            let command = self.next(&mut commands, &mut spilling);
            let waited = begin.elapsed();
            match command {
                Some(Command::Run(session, batch)) => {
                    if session.is_over() {
                        continue;
                    }
                    Counters::add(&self.counters.wait_micros, waited);
                    let loaded = self.loaded.as_mut();
                    if let Some(loaded) = loaded.filter(|loaded| loaded.epoch == session.epoch) {
                        let engine = &mut loaded.engine;
                        let counters = &self.counters;
                        let begin = Instant::now();
                        vitals
                            .during(Doing::Pass, || Visit { session: &session, engine, counters, batch: *batch }.run());
                        Counters::add(&self.counters.compute_micros, begin.elapsed());
                        spilling = true;
                    } else {
                        let why = "it was sent work before it was ready";
                        session.end(RingFault::failed(session.name(), why));
                    }
                }
                Some(Command::Configure { session, progress, reply }) => {
                    // The asking side is gone when the epoch is.
                    let _ = reply.send(vitals.during(Doing::TakingUp, || self.take(&session, &progress)));
                }
                Some(Command::Press(press)) => {
                    self.press = press;
                    if let Some(loaded) = &mut self.loaded {
                        let engine = std::mem::replace(&mut loaded.engine, Err(ComputeError::default()));
                        let press = || engine.and_then(|engine| pressed(engine, &self.press));
                        loaded.engine = vitals.during(Doing::Pressed, press);
                    }
                }
                Some(Command::Stop) | None => return,
            }
        }
    }

    /// The next request. Until one comes, goes on with what the engine does while no pass is there, as long as some of it is left.
    fn next(&mut self, commands: &mut mpsc::Receiver<Command>, spilling: &mut bool) -> Option<Command> {
        while *spilling {
            match commands.try_recv() {
                Ok(command) => return Some(command),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            *spilling = self.loaded.as_mut().is_some_and(|loaded| spilled(&mut loaded.engine));
            if *spilling {
                std::thread::sleep(A_LITTLE_LATER);
            }
        }
        commands.blocking_recv()
    }

    fn take(&mut self, session: &Session, progress: &ProgressSender) -> Result<Taken, ComputeError> {
        let kept = self
            .loaded
            .take()
            .filter(|loaded| loaded.plan_json == session.plan_json && loaded.device == session.device);
        // Weights of another plan are gone by now: both may not fit.
        let mut engine = match kept.map(|loaded| loaded.engine) {
            Some(Ok(engine)) => engine,
            Some(Err(_)) | None => self.load(session, progress)?,
        };
        engine.reset();
        if session.verify {
            // Computed with weights that may have been damaged, here or on another device.
            engine.forget_named();
        }
        let pages = engine.named_pages();
        // The keeper of the epoch before is gone; the new one is reached when this device is loaded, so nobody is asked before.
        engine.set_keeper(None);
        let mut engine = pressed(engine, &self.press)?;
        engine.set_keeper(session.take_keeper().map(|keeper| Box::new(keeper) as Box<dyn PageKeeper>));
        self.counters.use_engine(engine.as_ref());
        let (plan_json, device) = (session.plan_json.clone(), session.device);
        let epoch = session.epoch;
        let loaded = self.loaded.insert(LoadedPlan { epoch, plan_json, device, engine: Ok(engine) });
        // Whoever has begun a newer epoch meanwhile asks again.
        if !session.verify || session.is_over() {
            return Ok(Taken { pages, ..Taken::default() });
        }
        session.verifying.store(true, Ordering::Release);
        let verified = verified(&mut loaded.engine);
        session.verifying.store(false, Ordering::Release);
        verified.map(|mended| Taken { mended, pages })
    }

    fn load(
        &mut self,
        session: &Session,
        progress: &ProgressSender,
    ) -> Result<Box<dyn crate::compute::Compute>, ComputeError> {
        const EVERY: Duration = Duration::from_millis(50);
        let stopping = self.stopping.clone();
        let mut told = None::<Instant>;
        let vitals = &self.vitals;
        let mut tell = |loaded: Size, total: Size| {
            vitals.beat();
            if session.is_over() || stopping.is_cancelled() {
                resume_unwind(Box::new(LoadCutShort));
            }
            if loaded == total || told.is_none_or(|told| told.elapsed() >= EVERY) {
                told = Some(Instant::now());
                // A reader that is behind misses a step of the bar and nothing else.
                let _ = progress.try_send(Ok(ConfigureProgress {
                    phase: "loading".to_owned(),
                    loaded_bytes: loaded.0,
                    total_bytes: total.0,
                    ..ConfigureProgress::default()
                }));
            }
        };
        let loader = &mut self.loader;
        let load = || loader.load(&session.plan, session.device, &mut tell);
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|payload| {
            Err(ComputeError::new(if payload.is::<LoadCutShort>() {
                "the load was cut short by a newer epoch".to_owned()
            } else {
                format!("loading panicked: {}", panic_message(payload.as_ref()))
            }))
        })
    }
}
