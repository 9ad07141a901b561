//! When a worker that died is started again: a pure function.

use std::time::Duration;

/// How often and how fast workers are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RestartPolicy {
    /// Restarts before giving up.
    pub(super) max_restarts: u32,
    /// The wait before the first restart; it doubles with each.
    pub(super) first_delay: Duration,
    /// The longest wait.
    pub(super) longest_delay: Duration,
    /// A worker that ran for so long starts with a clean record.
    pub(super) forget_after: Duration,
}

/// What to do about a worker that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Start it again.
    Restart {
        /// After so long.
        delay: Duration,
        /// Restarts used up, this one included.
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
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(10),
            forget_after: Duration::from_secs(600),
        }
    }

    /// What to do about a worker that ended after `uptime`, restarted `restarts` times so far.
    pub(super) fn decide(&self, restarts: u32, uptime: Duration) -> Decision {
        let restarts = if uptime >= self.forget_after { 0 } else { restarts };
        if restarts >= self.max_restarts {
            return Decision::GiveUp;
        }
        let delay = self.first_delay.saturating_mul(1_u32.checked_shl(restarts).unwrap_or(u32::MAX));
        Decision::Restart { delay: delay.min(self.longest_delay), restarts: restarts + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = RestartPolicy::new(64);
        let delay = |restarts| match policy.decide(restarts, SHORT) {
            Decision::Restart { delay, .. } => delay.as_millis(),
            Decision::GiveUp => panic!("gave up after {restarts}"),
        };
        assert_eq!([0, 1, 2, 6, 7, 40].map(delay), [100, 200, 400, 6400, 10_000, 10_000]);
    }

    #[test]
    fn the_budget_is_kept() {
        let policy = RestartPolicy::new(2);
        assert_eq!(policy.decide(1, SHORT), Decision::Restart { delay: Duration::from_millis(200), restarts: 2 });
        assert_eq!(policy.decide(2, SHORT), Decision::GiveUp);
        assert_eq!(RestartPolicy::new(0).decide(0, SHORT), Decision::GiveUp);
    }

    #[test]
    fn a_long_life_clears_the_record() {
        let policy = RestartPolicy::new(2);
        let long = policy.forget_after;
        assert_eq!(policy.decide(2, long), Decision::Restart { delay: policy.first_delay, restarts: 1 });
    }

    proptest::proptest! {
        #[test]
        fn a_crash_loop_always_ends(max_restarts in 0_u32..50, uptime_ms in 0_u64..599_000) {
            let policy = RestartPolicy::new(max_restarts);
            let mut restarts = 0;
            let mut starts = 0;
            while let Decision::Restart { restarts: next, delay } = policy.decide(restarts, Duration::from_millis(uptime_ms)) {
                proptest::prop_assert!(delay >= policy.first_delay && delay <= policy.longest_delay);
                restarts = next;
                starts += 1;
            }
            proptest::prop_assert_eq!(starts, max_restarts);
        }
    }
}
