//! Lines of the log that a client can cause as often as it likes.

use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(10);

/// Lets something be said every ten seconds at most, with how often it happened since.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    said: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// It happened; the number of times where it is to be said now.
    pub(super) fn now(&mut self) -> Option<u64> {
        self.times += 1;
        if self.said.is_some_and(|said| said.elapsed() < PAUSE) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.times))
    }
}
