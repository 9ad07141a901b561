//! Pauses between attempts that grow, for whoever tries again: connections, reads of disks, servers, workers, reconciling.
//!
//! Only how long to wait: who waits, for how many attempts and for which faults, is theirs to say.
//!
//! ```
//! use std::time::Duration;
//! use lime_backoff::Backoff;
//!
//! const ASKING: Backoff = Backoff::doubling(Duration::from_millis(200), Duration::from_secs(1));
//! let pauses: Vec<u128> = ASKING.pauses().take(4).map(|pause| pause.as_millis()).collect();
//! assert_eq!(pauses, [200, 400, 800, 1000]);
//! assert_eq!(ASKING.after(3), Duration::from_millis(800));
//! ```

use std::time::Duration;

/// How pauses grow: each is so many times the one before it, up to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    factor: u32,
}

impl Backoff {
    /// From `first` on, each twice the one before.
    pub const fn doubling(first: Duration, longest: Duration) -> Self {
        Self::growing(first, 2, longest)
    }

    /// From `first` on, each `factor` times the one before.
    pub const fn growing(first: Duration, factor: u32, longest: Duration) -> Self {
        Self { first, longest, factor }
    }

    /// The pause after so many attempts in vain: the first, after one.
    pub fn after(self, attempts: u32) -> Duration {
        self.first.saturating_mul(self.factor.saturating_pow(attempts.saturating_sub(1))).min(self.longest)
    }

    /// The pauses, one after the other, without end.
    pub const fn pauses(self) -> Pauses {
        Pauses { backoff: self, attempts: 0 }
    }
}

/// The pauses of a [`Backoff`] as attempts fail. It has no end.
#[derive(Clone, Debug)]
pub struct Pauses {
    backoff: Backoff,
    attempts: u32,
}

impl Pauses {
    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        self.backoff.after(self.attempts)
    }

    /// An attempt was a success: the next pause is the first again.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(backoff: Backoff, attempts: &[u32]) -> Vec<u128> {
        attempts.iter().map(|attempts| backoff.after(*attempts).as_millis()).collect()
    }

    #[test]
    fn pauses_grow_to_the_longest_whatever_the_count() {
        let second = Duration::from_secs(1);
        let doubling = Backoff::doubling(second, 60 * second);
        let seconds = milliseconds(doubling, &[0, 1, 2, 3, 6, 7, 1000, u32::MAX]);
        assert_eq!(seconds, [1, 1, 2, 4, 32, 60, 60, 60].map(|seconds| seconds * 1000));
        let fourfold = Backoff::growing(Duration::from_millis(5), 4, second);
        assert_eq!(milliseconds(fourfold, &[1, 2, 3, 4, 5]), [5, 20, 80, 320, 1000]);
    }

    #[test]
    fn a_success_begins_anew() {
        let mut pauses = Backoff::doubling(Duration::from_millis(20), Duration::from_millis(50)).pauses();
        let first: Vec<u128> = pauses.by_ref().take(3).map(|pause| pause.as_millis()).collect();
        assert_eq!(first, [20, 40, 50]);
        pauses.reset();
        assert_eq!(pauses.pause(), Duration::from_millis(20));
    }
}
