//! Memory: what the kernel says of it, and the least of the last hour.

use std::collections::VecDeque;

use thiserror::Error;

/// Memory of a node, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What there is.
    pub total_bytes: u64,
    /// What could be had now without swapping.
    pub available_bytes: u64,
}

/// `/proc/meminfo` without a line that every kernel since 3.14 has.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("/proc/meminfo has no line {0}: is /proc mounted?")]
pub struct MissingLine(&'static str);

/// Reads `/proc/meminfo`.
///
/// # Errors
/// If a line is missing or holds no number.
pub fn parse_meminfo(text: &str) -> Result<Memory, MissingLine> {
    let kibibytes = |name: &'static str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse::<u64>().ok())
            .and_then(|value| value.checked_mul(1024))
            .ok_or(MissingLine(name))
    };
    Ok(Memory { total_bytes: kibibytes("MemTotal")?, available_bytes: kibibytes("MemAvailable")? })
}

const MINUTES: usize = 60;

/// The least value of the last hour, kept as one minimum a minute.
#[derive(Clone, Debug, Default)]
pub struct LowWater {
    minutes: VecDeque<(u64, u64)>,
}

impl LowWater {
    /// Takes in a value at a time, in seconds that never run backwards, and returns the least of the hour.
    pub fn take(&mut self, seconds: u64, value: u64) -> u64 {
        let minute = seconds / 60;
        match self.minutes.back_mut() {
            Some((last, least)) if *last >= minute => *least = value.min(*least),
            _ => self.minutes.push_back((minute, value)),
        }
        let oldest = minute.saturating_sub(MINUTES as u64 - 1);
        self.minutes.retain(|(minute, _)| *minute >= oldest);
        self.minutes.iter().map(|(_, least)| *least).min().unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24683344 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n";
        let memory = Memory { total_bytes: 24_683_344 * 1024, available_bytes: 20_000_000 * 1024 };
        assert_eq!(parse_meminfo(text), Ok(memory));
    }

    #[test]
    fn garbage_is_named_and_never_a_panic() {
        for text in ["", "MemTotal: 5 kB", "MemTotal: x kB\nMemAvailable: 1 kB", "MemTotal: 99999999999999999999 kB"] {
            assert!(parse_meminfo(text).is_err(), "{text:?}");
        }
        let overflow = format!("MemTotal: {} kB\nMemAvailable: 1 kB", u64::MAX);
        assert_eq!(parse_meminfo(&overflow), Err(MissingLine("MemTotal")));
    }

    #[test]
    fn a_low_is_remembered_for_an_hour() {
        let mut low = LowWater::default();
        assert_eq!(low.take(0, 100), 100);
        assert_eq!(low.take(30, 40), 40);
        assert_eq!(low.take(59 * 60, 90), 40);
        assert_eq!(low.take(60 * 60, 90), 90);
    }

    proptest! {
        #[test]
        fn the_low_is_never_above_a_recent_value(values in proptest::collection::vec((0_u64..600, 0_u64..1000), 1..200)) {
            let mut low = LowWater::default();
            let mut now = 0;
            for (step, value) in values {
                now += step;
                prop_assert!(low.take(now, value) <= value);
                prop_assert!(low.minutes.len() <= MINUTES);
            }
        }
    }
}
