//! When a worker that died is started again: a pure function of what it did so far.

use std::{collections::VecDeque, time::Duration};

use lime_backoff::Backoff;

/// How often and how fast workers are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RestartPolicy {
    /// Most restarts of a worker within the window.
    pub(super) max_restarts: u32,
    /// Restarts that lie further back do not count.
    pub(super) window: Duration,
    /// The wait before the first restart; it doubles with each.
    pub(super) first_delay: Duration,
    /// The longest wait.
    pub(super) longest_delay: Duration,
    /// A worker that runs for so long takes one doubling back, and so on.
    pub(super) calm: Duration,
}

/// What is remembered of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// When it was restarted, the oldest first.
    restarts: VecDeque<Duration>,
    doublings: u32,
}

/// What to do about a worker that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Start it again.
    Restart {
        /// After so long.
        delay: Duration,
        /// Restarts within the window, this one included.
        restarts: u32,
    },
    /// The budget is used up.
    GiveUp,
}

impl RestartPolicy {
    /// The policy of a deployment that allows `max_restarts`.
    pub(super) const fn new(max_restarts: u32) -> Self {
        Self {
            max_restarts,
            window: Duration::from_secs(600),
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(10),
            calm: Duration::from_secs(30),
        }
    }

    /// What to do about a worker that ended at the moment `now`, after `uptime`.
    pub(super) fn decide(&self, record: &mut Record, now: Duration, uptime: Duration) -> Decision {
        record.restarts.retain(|then| now.saturating_sub(*then) < self.window);
        if record.restarts.len() >= self.max_restarts as usize {
            return Decision::GiveUp;
        }
        let spells = u32::try_from(uptime.as_millis() / self.calm.as_millis().max(1)).unwrap_or(u32::MAX);
        let doublings = record.doublings.saturating_sub(spells);
        record.doublings = doublings.saturating_add(1);
        let delay = Backoff::doubling(self.first_delay, self.longest_delay).after(record.doublings);
        record.restarts.push_back(now);
        let restarts = u32::try_from(record.restarts.len()).unwrap_or(u32::MAX);
        Decision::Restart { delay, restarts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deaths after such uptimes in seconds: the delay in milliseconds and the count of each restart, up to giving up.
    fn deaths(max_restarts: u32, uptimes: &[u64]) -> Vec<Option<(u128, u32)>> {
        let policy = RestartPolicy::new(max_restarts);
        let (mut record, mut now) = (Record::default(), Duration::ZERO);
        let decided = uptimes.iter().map(|uptime| {
            let uptime = Duration::from_secs(*uptime);
            now += uptime;
            match policy.decide(&mut record, now, uptime) {
                Decision::Restart { delay, restarts } => Some((delay.as_millis(), restarts)),
                Decision::GiveUp => None,
            }
        });
        decided.collect()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_fall_again() {
        let delays = |uptimes: &[u64]| -> Vec<u128> {
            deaths(100, uptimes).into_iter().flatten().map(|(delay, _)| delay).collect()
        };
        assert_eq!(delays(&[1; 9]), [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(delays(&[1, 1, 1, 29, 30, 60, 90, 1]), [100, 200, 400, 800, 800, 400, 100, 200]);
        assert_eq!(delays(&[3600; 4]), [100; 4]);
    }

    #[test]
    fn the_budget_is_one_over_time() {
        let (one, two) = (Some((100, 1)), Some((200, 2)));
        assert_eq!(deaths(2, &[1, 1, 1]), [one, two, None]);
        assert_eq!(deaths(0, &[1]), [None]);
        assert_eq!(deaths(2, &[1, 1, 1, 600]), [one, two, None, one], "what is long past does not count");
        // The sixth death of a worker that ran for a few minutes each time: nothing to give up for.
        assert!(deaths(5, &[150; 50]).iter().all(Option::is_some));
        assert_eq!(deaths(5, &[100; 6])[5], None, "six within ten minutes are too many");
    }

    proptest::proptest! {
        #[test]
        fn a_crash_loop_always_ends(max_restarts in 0_u32..50, uptime_ms in 0_u64..10_000) {
            let policy = RestartPolicy::new(max_restarts);
            let (mut record, mut now, mut starts) = (Record::default(), Duration::ZERO, 0);
            let uptime = Duration::from_millis(uptime_ms);
            while let Decision::Restart { restarts, delay } = policy.decide(&mut record, now, uptime) {
                proptest::prop_assert!(delay >= policy.first_delay && delay <= policy.longest_delay);
                now += uptime;
                starts += 1;
                proptest::prop_assert_eq!(restarts, starts);
            }
            proptest::prop_assert_eq!(starts, max_restarts);
        }
    }
}
