//! When it is time to measure what takes the machine's time: workers that serve come first.

use std::time::Duration;

/// Measurements are put off while more of the machine is busy than this.
pub const BUSY: f64 = 0.5;
/// Disk and processor age slowly: they are measured again after a day.
const REMEASURE: Duration = Duration::from_secs(24 * 3600);
/// A machine that became quiet may have done so for a moment: it is not measured again and again.
const RETRY: Duration = Duration::from_secs(60);

/// The last long measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How long ago it was.
    pub age: Duration,
    /// Whether others used the machine meanwhile: it says too little of the machine.
    pub busy: bool,
}

/// Whether to measure now. A machine that never rests is measured all the same after the longest wait, once; what was measured in
/// a quiet moment is never replaced by what was not.
#[must_use]
pub fn due(last: Option<Measured>, awake: Duration, busy: f64, longest_wait: Duration) -> bool {
    let quiet = busy < BUSY;
    match last {
        None => quiet || awake >= longest_wait,
        Some(Measured { age, busy: true }) => quiet && age >= RETRY,
        Some(Measured { age, busy: false }) => quiet && age >= REMEASURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_moments_are_waited_for() {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let measured = |age, busy| Some(Measured { age, busy });
        let table = [
            (None, second, 0.1, true),
            (None, 299 * second, 0.9, false),
            (None, 300 * second, 0.9, true),
            // Measured while others worked: again as soon as there is quiet, on another day or not.
            (measured(59 * second, true), day, 0.1, false),
            (measured(60 * second, true), day, 0.1, true),
            (measured(9 * day, true), day, 0.9, false),
            (measured(60 * second, false), day, 0.1, false),
            (measured(day, false), day, 0.1, true),
            (measured(9 * day, false), day, 0.9, false),
        ];
        for (last, awake, busy, expected) in table {
            assert_eq!(due(last, awake, busy, 300 * second), expected, "{last:?} {awake:?} {busy}");
        }
    }
}
