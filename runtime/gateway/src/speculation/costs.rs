//! What a pass takes by its number of rows, as measured. A plan promises the time of passes with one row a sequence; what further rows cost
//! on these devices, with these disks and links, the passes themselves say: those of prompts have many rows and come first.

use std::{collections::BTreeMap, time::Duration};

/// What a new measurement counts against those before it.
const NEW: f64 = 0.2;
/// One that is so many times those before it is no measurement of rows: something came in between.
const OUTLIER: f64 = 3.0;
/// After so many passes a measurement says nothing any more.
const STALE: u64 = 512;
/// Up to so many rows each number is measured apart; above, those of one power of two together.
const APART: u32 = 16;

/// Times of passes, by rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    measured: BTreeMap<u32, Measured>,
    passes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Mean number of rows.
    rows: f64,
    seconds: f64,
    /// The pass that measured it last.
    at: u64,
}

impl Costs {
    /// A pass of `rows` rows took so long.
    pub(crate) fn note(&mut self, rows: u32, took: Duration) {
        self.passes += 1;
        let (at, rows, seconds) = (self.passes, rows.max(1), took.as_secs_f64());
        let class = if rows <= APART { rows } else { rows.next_power_of_two() };
        self.measured.retain(|_, measured| at - measured.at < STALE);
        let fresh = Measured { rows: rows.into(), seconds, at };
        let measured = self.measured.entry(class).or_insert(fresh);
        let seconds = seconds.min(measured.seconds * OUTLIER);
        measured.rows += NEW * (fresh.rows - measured.rows);
        measured.seconds += NEW * (seconds - measured.seconds);
        measured.at = at;
    }

    /// What a pass of `rows` rows takes in seconds, as far as is known: between two measurements on the line between them, above all of them as
    /// the nearest. `None` where none is of so few rows: what the pass costs without guesses is to be seen first.
    pub(crate) fn of(&self, rows: u32) -> Option<f64> {
        let rows = f64::from(rows);
        let below = self.measured.values().rev().find(|measured| measured.rows <= rows);
        let above = self.measured.values().find(|measured| measured.rows >= rows);
        let below = below?;
        Some(match above {
            Some(above) if above.rows > below.rows => {
                let share = (rows - below.rows) / (above.rows - below.rows);
                below.seconds + share * (above.seconds - below.seconds)
            }
            _ => below.seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn rows_between_two_measurements_cost_what_lies_between() {
        let mut costs = Costs::default();
        assert_eq!(costs.of(1), None);
        costs.note(128, millis(227));
        assert_eq!(costs.of(1), None, "a pass of one row is to be seen first");
        costs.note(1, millis(100));
        assert_eq!(costs.of(1), Some(0.1));
        assert!((costs.of(2).unwrap() - 0.101).abs() < 1e-6);
        assert_eq!(costs.of(500), Some(0.227));
        costs.note(2, millis(150));
        assert_eq!(costs.of(2), Some(0.15));
    }

    #[test]
    fn one_slow_pass_weighs_little_and_old_ones_nothing() {
        let mut costs = Costs::default();
        costs.note(2, millis(100));
        costs.note(2, millis(90_000));
        assert!(costs.of(2).unwrap() < 0.15, "{:?}", costs.of(2));
        costs.note(1, millis(50));
        (0..STALE).for_each(|_| costs.note(1, millis(50)));
        assert_eq!(costs.of(2), Some(0.05), "what two rows cost is to be seen again");
    }
}
