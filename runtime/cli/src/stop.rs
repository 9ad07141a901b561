//! When to stop.

use std::io::Read as _;

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Signals that ask this process to stop; from its creation on they no longer kill it.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Starts to listen.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Ctrl-C or SIGTERM.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Resolves when standard input ends: whoever holds the other end of the pipe is gone, however that came about.
pub(crate) fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, receiver) = oneshot::channel();
    // A thread of its own: a runtime would wait for a blocked read when it shuts down.
    std::thread::spawn(move || {
        let mut input = std::io::stdin();
        let mut ignored = [0_u8; 256];
        while input.read(&mut ignored).is_ok_and(|read| read > 0) {}
        let _ = ended.send(());
    });
    receiver
}
