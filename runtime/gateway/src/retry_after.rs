//! When a place in the queue will be free: who is sent away is told when to come again.
//!
//! Answers are counted while sequences wait, so the count over that time is the speed of the ring under load. Each client that
//! is sent away gets the next place that nobody was promised, so they come back one after another. Before anything is known of
//! the speed they come back within a while, and those for whom there is no place then are promised one after that while.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The official clients wait no longer than that because a server says so.
const LONGEST: f64 = 60.0;
/// Clients come more slowly than places become free, as rings become slower, too.
const SLACK: f64 = 1.5;
/// Longest and shortest time where nothing is known.
const A_LITTLE: (f64, f64) = (1.0, 3.0);
/// What is kept of what was seen at each further answer: the last 32 or so make the speed, as fast or slow as they come.
const KEPT: f64 = 31.0 / 32.0;

/// The speed of the ring under load, and what was promised.
#[derive(Debug, Default)]
pub(crate) struct RetryAfter(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// Since when sequences wait, as far as that time is not counted yet.
    loaded: Option<Instant>,
    /// Seconds under load, and the answers that ended in them. Both fade with each answer.
    seconds: f64,
    answers: f64,
    /// Sequences that have a slot.
    active: usize,
    /// When the last who were sent away are due.
    last: Option<Instant>,
}

impl RetryAfter {
    /// So many sequences wait and have a slot.
    pub(crate) fn sequences(&self, waiting: usize, active: usize) {
        self.change(|book, now| {
            book.active = active;
            book.loaded = (waiting > 0).then_some(now);
        });
    }

    /// An answer ended.
    pub(crate) fn answered(&self) {
        self.change(|book, _| {
            if book.loaded.is_some() {
                (book.seconds, book.answers) = (book.seconds * KEPT, book.answers * KEPT + 1.0);
            }
        });
    }

    /// How long a client whose `sequences` find no place should wait.
    pub(crate) fn wait_for_room(&self, sequences: usize) -> Duration {
        let seconds = self.change(|book, now| book.promise(sequences, now));
        Duration::from_secs_f64(seconds)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book, Instant) -> T) -> T {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        book.count(now);
        change(&mut book, now)
    }
}

impl Book {
    /// Adds the time under load up to now.
    fn count(&mut self, now: Instant) {
        let Some(since) = self.loaded.replace(now) else {
            self.loaded = None;
            return;
        };
        self.seconds += now.saturating_duration_since(since).as_secs_f64();
    }

    fn promise(&mut self, sequences: usize, now: Instant) -> f64 {
        let last = self.last.map_or(0.0, |last| last.saturating_duration_since(now).as_secs_f64());
        let (wait, due) = if self.answers < 1.0 || self.seconds <= 0.0 {
            // It takes longer than it took so far.
            let within = (A_LITTLE.0 + self.seconds, A_LITTLE.1 + 1.5 * self.seconds);
            (uniform(within.0, within.1), last.max(within.1))
        } else {
            let each = self.seconds / self.answers;
            let place = last + SLACK * each * sequences as f64;
            // Slots that were taken together become free together: a round of them may pass before the first does.
            (place + each * self.active.max(1) as f64, place)
        };
        self.last = Some(now + Duration::from_secs_f64(due.min(LONGEST)));
        // Further than a client waits: some time, and not the same for all.
        if wait < LONGEST { wait } else { uniform(0.75, 1.0) * LONGEST }
    }
}

/// One to three seconds: where there is nothing to go by, and clients should not come back at once.
pub(crate) fn a_little() -> Duration {
    Duration::from_secs_f64(uniform(A_LITTLE.0, A_LITTLE.1))
}

fn uniform(low: f64, high: f64) -> f64 {
    low + (high - low) * fastrand::f64()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_is_sent_away_comes_back_in_turn() {
        let pace = RetryAfter::default();
        pace.sequences(0, 4);
        advance(100 * SECOND).await;
        pace.sequences(8, 4);
        for _ in 0..20 {
            advance(SECOND).await;
            (0..4).for_each(|_| pace.answered());
        }
        // Four answers a second: the first place after a round of a second, each further one a quarter later and some more.
        for number in 1..=40 {
            let (wait, expected) = (pace.wait_for_room(1).as_secs_f64(), 1.0 + 0.25 * SLACK * f64::from(number));
            assert!((wait - expected).abs() < 0.1 * expected, "{number}: {wait} of {expected}");
        }
        // Those who are due are forgotten, the speed is not.
        advance(20 * SECOND).await;
        (0..80).for_each(|_| pace.answered());
        assert!(pace.wait_for_room(1).as_secs_f64() < 2.0);
        let longest = (0..1000).map(|_| pace.wait_for_room(1)).max().unwrap();
        assert!(longest <= 60 * SECOND, "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_time_so_far_counts() {
        let pace = RetryAfter::default();
        assert!((SECOND..3 * SECOND).contains(&pace.wait_for_room(1)));
        pace.sequences(8, 4);
        advance(20 * SECOND).await;
        assert!((20 * SECOND..34 * SECOND).contains(&pace.wait_for_room(1)));
        // Now it is known, and comes after those who were sent away before.
        (0..8).for_each(|_| pace.answered());
        assert!(pace.wait_for_room(1) > 30 * SECOND);
    }
}
