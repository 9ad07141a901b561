//! Bandwidths and durations as people write them: `100Mbit`, `200MB`, `2ms`.

use std::time::Duration;

use thiserror::Error;

/// A text that is not what it should be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not {what}: write {example}")]
pub(crate) struct UnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A number and what follows it, without blanks around either.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    number.is_finite().then(|| (number, unit.trim_start()))
}

fn scaled(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit = unit.strip_suffix("/s").or(unit.strip_suffix("ps")).unwrap_or(unit);
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)?;
    let value = number * scale;
    (value >= 1.0 && value < u64::MAX as f64).then_some(value as u64)
}

/// Bits per second: `100Mbit`, `2.5Gbit/s`, `56kbit`.
pub(crate) fn bits_per_second(text: &str) -> Result<u64, UnitError> {
    let units = [("bit", 1.0), ("kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9), ("Tbit", 1e12)];
    scaled(text, &units).ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "a link's bandwidth",
        example: "bits per second such as 100Mbit, 2.5Gbit or 500kbit",
    })
}

/// Bytes per second: `200MB`, `1.5GB/s`, `64MiB`.
pub(crate) fn bytes_per_second(text: &str) -> Result<u64, UnitError> {
    let kib = 1024.0;
    let units =
        [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("KiB", kib), ("MiB", kib * kib), ("GiB", kib * kib * kib)];
    scaled(text, &units).ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "a disk's bandwidth",
        example: "bytes per second such as 200MB, 1.5GB or 64MiB",
    })
}

/// Operations per second: `50GFLOP`, `1.5TFLOP/s`.
pub(crate) fn flops_per_second(text: &str) -> Result<u64, UnitError> {
    let units = [("MFLOP", 1e6), ("GFLOP", 1e9), ("TFLOP", 1e12)];
    scaled(text, &units).ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "a matrix throughput",
        example: "operations per second such as 50GFLOP or 1.5TFLOP",
    })
}

/// A span of time: `2ms`, `500us`, `1.5s`, `0s`.
pub(crate) fn duration(text: &str) -> Result<Duration, UnitError> {
    let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let parsed = split(text).and_then(|(number, unit)| {
        let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)?;
        let seconds = number * scale;
        // An hour is longer than any link.
        (seconds <= 3600.0).then(|| Duration::from_nanos((seconds * 1e9).round() as u64))
    });
    parsed.ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "a duration up to an hour",
        example: "a time such as 2ms, 500us or 1.5s",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_of_links_are_bits() {
        for (text, bits) in
            [("100Mbit", 100_000_000), ("2.5Gbit/s", 2_500_000_000), ("56 kbit", 56_000), ("1000bitps", 1000)]
        {
            assert_eq!(bits_per_second(text), Ok(bits), "{text}");
        }
        for text in ["", "100", "100MB", "0Mbit", "-1Mbit", "Mbit", "1e3Mbit", "100 M bit", "1.2.3Mbit", "infMbit"] {
            let error = bits_per_second(text).unwrap_err().to_string();
            assert!(error.contains("such as 100Mbit"), "{error}");
        }
    }

    #[test]
    fn bandwidths_of_disks_are_bytes() {
        for (text, bytes) in [("200MB", 200_000_000), ("1.5GB/s", 1_500_000_000), ("64MiB", 64 << 20), ("1kB", 1000)] {
            assert_eq!(bytes_per_second(text), Ok(bytes), "{text}");
        }
        for text in ["", "200", "200Mbit", "0MB", "200mb", "99999999999999999999GB"] {
            assert!(bytes_per_second(text).unwrap_err().to_string().contains("such as 200MB"));
        }
    }

    #[test]
    fn durations_name_their_unit() {
        for (text, micros) in [("2ms", 2000), ("500us", 500), ("1.5s", 1_500_000), ("0s", 0), ("1000ns", 1)] {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "2", "2m", "2 min", "-1ms", "2ms3", "7200s", "99999999999999999999s"] {
            assert!(duration(text).unwrap_err().to_string().contains("such as 2ms"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".{0,24}") {
            let _ = (bits_per_second(&text), bytes_per_second(&text), duration(&text));
        }
    }
}
