//! Memory that others take away from this device: looked at a few times a second, and told to the compute thread when it changes.

mod reading;
pub(crate) mod watch;

use std::{
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{command::Command, state::Worker};
use watch::Watch;
pub(crate) use watch::of_the_plan;

/// A limit is often followed by a harder one: soon enough to be out of the way, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_millis(500);
const STACK: usize = 256 << 10;

/// The thread that looks. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Pressure {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pressure {
    /// Begins to look on behalf of `worker`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(worker: Arc<Worker>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("lime-memory".to_owned()).stack_size(STACK);
        let look = move || {
            let mut watch = Watch::default();
            while stopped.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                look(&worker, &mut watch);
            }
        };
        Ok(Self { stop: Some(stop), thread: Some(thread.spawn(look)?) })
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It holds nothing that a panic could leave half done.
            let _ = thread.join();
        }
    }
}

fn look(worker: &Worker, watch: &mut Watch) {
    let Some(session) = worker.session() else { return };
    let Some(device) = session.plan.devices.get(session.device.0 as usize) else { return };
    let reading = reading::read_by(|path| std::fs::read_to_string(path).ok());
    let Some(press) = watch.look(&reading, device.memory.budget) else { return };
    // A queue that is full is looked at again soon.
    if worker.compute.try_send(Command::Press(press)).is_err() {
        watch.not_told();
    }
}
