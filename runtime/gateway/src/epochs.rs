//! The count of rings, and what is known of workers that are elsewhere in theirs.

use std::{collections::BTreeMap, time::Duration};

use lime_backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A worker whose epoch is further ahead than this was not brought there by counting: it is told to come back.
const FURTHEST: u64 = 1 << 32;

/// How many rings there were, and how the last attempts went.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    pub(crate) last: u64,
    /// Workers at an epoch out of all proportion, which they are told to give up.
    pub(crate) replaces: BTreeMap<String, u64>,
    pub(crate) served: bool,
    /// Attempts since the last result.
    pub(crate) attempts: u32,
    pub(crate) told: Option<String>,
}

impl Epochs {
    /// A worker says at which epoch it is.
    pub(crate) fn learn(&mut self, device: Option<&String>, current: u64) {
        match device {
            Some(device) if current > self.last.saturating_add(FURTHEST) => {
                self.replaces.insert(device.clone(), current);
            }
            _ => self.last = self.last.max(current),
        }
    }

    /// None before the first attempt; then from 50 ms doubling.
    pub(crate) fn pause(&self, longest: Duration) -> Duration {
        match self.attempts {
            0 => Duration::ZERO,
            attempts => Backoff::doubling(FIRST_PAUSE, longest).after(attempts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_count_are_followed_and_others_are_told_to_come_back() {
        let mut epochs = Epochs { last: 3, ..Epochs::default() };
        let device = "a".to_owned();
        epochs.learn(Some(&device), 70_000);
        epochs.learn(Some(&device), 12);
        assert_eq!((epochs.last, epochs.replaces.len()), (70_000, 0));
        for far in [1 << 62, u64::MAX, (1 << 32) + 70_001] {
            epochs.learn(Some(&device), far);
            assert_eq!((epochs.last, epochs.replaces.get("a")), (70_000, Some(&far)));
        }
    }

    #[test]
    fn pauses_double() {
        let pause = |attempts| Epochs { attempts, ..Epochs::default() }.pause(Duration::from_secs(2)).as_millis();
        assert_eq!([0, 1, 2, 3, 6, 7, 90].map(pause), [0, 50, 100, 200, 1600, 2000, 2000]);
    }
}
