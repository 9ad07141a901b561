//! Repeated measurements within a limit of time.

use std::time::{Duration, Instant};

/// How often and for how long something is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// At least so often, however long that takes.
    pub(crate) least: usize,
    /// At most so often.
    pub(crate) most: usize,
    /// No further round begins after so long.
    pub(crate) within: Duration,
}

/// The median of what `round` gives (its middle value, the lower of two), over as many rounds as are allowed.
pub(crate) fn median(rounds: Rounds, mut round: impl FnMut() -> f64) -> f64 {
    let begin = Instant::now();
    let mut found = Vec::with_capacity(rounds.most.min(1024));
    while found.len() < rounds.least.max(1) || (found.len() < rounds.most && begin.elapsed() < rounds.within) {
        found.push(round());
    }
    middle(&mut found)
}

/// The middle value; zero of nothing.
pub(crate) fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Seconds that `body` takes.
pub(crate) fn seconds(body: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    body();
    begin.elapsed().as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_bounded_and_the_middle_counts() {
        let mut values = [9.0, 1.0, 5.0, 3.0].into_iter().cycle();
        let rounds = Rounds { least: 3, most: 3, within: Duration::ZERO };
        assert_eq!(median(rounds, || values.next().unwrap_or_default()), 5.0);
        let mut count = 0;
        median(Rounds { least: 0, most: 7, within: Duration::from_secs(60) }, || {
            count += 1;
            0.0
        });
        assert_eq!(count, 7);
        assert_eq!(middle(&mut []), 0.0);
    }
}
