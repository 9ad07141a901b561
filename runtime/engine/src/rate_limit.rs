//! A rate that all readers keep together: one machine plays a slow disk.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Readers ask before they read. Time in which nobody asks is lost, as it is on a disk.
#[derive(Debug)]
pub(crate) struct RateLimit {
    rate: f64,
    /// When everything that was asked for so far will have been read.
    busy_until: Mutex<Instant>,
}

impl RateLimit {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { rate: bytes_per_second.max(1) as f64, busy_until: Mutex::new(Instant::now()) }
    }

    /// Returns when `bytes` more would have been read.
    pub(crate) fn wait(&self, bytes: u64) {
        let now = Instant::now();
        let due = {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            *busy_until = (*busy_until).max(now) + Duration::from_secs_f64(bytes as f64 / self.rate);
            *busy_until
        };
        thread::sleep(due.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_no_credit() {
        let limit = RateLimit::new(1000);
        thread::sleep(Duration::from_millis(60));
        let begun = Instant::now();
        limit.wait(20);
        limit.wait(20);
        assert!(begun.elapsed() >= Duration::from_millis(39));
    }
}
