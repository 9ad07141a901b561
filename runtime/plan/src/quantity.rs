//! Amounts as people write them, one grammar for every file and flag: a number, then a unit with or without a space and with or
//! without its `/s`: `16 GiB`, `16Gi`, `59.7 GB/s`, `100 Mbit/s`, `100Mbit`, `2 ms`. Kubernetes' quantities of bytes are among them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number, or a number with a unit. Nothing is checked until it is asked for as something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A whole number in the base unit.
    Whole(i64),
    /// A number in the base unit.
    Number(f64),
    /// A number and a unit.
    Text(String),
}

/// A kind of amount: its unit, how it is stored, and what is believable.
#[derive(Clone, Copy, Debug)]
pub struct QuantityKind {
    /// What it is called in errors.
    pub name: &'static str,
    /// The base unit.
    unit: &'static str,
    /// What may follow the unit, or be left out.
    per: &'static str,
    /// Whether the unit itself may be left out, as Kubernetes does for bytes.
    bare: bool,
    /// Stored units in a base unit, as a fraction.
    scale: (u64, u64),
    /// The smallest believable amount, in base units.
    pub least: f64,
    /// The largest believable amount, in base units.
    pub most: f64,
    /// An example for errors.
    pub example: &'static str,
}

impl QuantityKind {
    /// Memory or disk space, stored as bytes.
    pub const MEMORY: Self = Self {
        name: "memory",
        unit: "B",
        per: "",
        bare: true,
        scale: (1, 1),
        least: 1024.0 * 1024.0,
        most: 64.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        example: "14 GiB",
    };
    /// Bytes per second from memory.
    pub const MEMORY_BANDWIDTH: Self =
        Self { name: "memoryBandwidth", per: "/s", least: 1e6, most: 1e14, example: "59.7 GB/s", ..Self::MEMORY };
    /// Bytes per second from a disk.
    pub const DISK: Self =
        Self { name: "diskBandwidth", per: "/s", least: 1e4, most: 1e12, example: "1.2 GB/s", ..Self::MEMORY };
    /// Operations per second.
    pub const THROUGHPUT: Self = Self {
        name: "throughput",
        unit: "FLOP",
        per: "/s",
        bare: false,
        least: 1e6,
        most: 1e16,
        example: "900 GFLOP/s",
        ..Self::MEMORY
    };
    /// A link, written in bits per second and stored as bytes per second.
    pub const LINK: Self = Self {
        name: "bandwidth",
        unit: "bit",
        per: "/s",
        bare: false,
        scale: (1, 8),
        least: 8e3,
        most: 1e13,
        example: "100 Mbit/s",
    };
    /// A span of time, stored as nanoseconds.
    pub const LATENCY: Self = Self {
        name: "latency",
        unit: "s",
        per: "",
        bare: false,
        scale: (1_000_000_000, 1),
        least: 0.0,
        most: 60.0,
        example: "500 us",
    };

    /// The same under another name.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same, stored as it is written.
    #[must_use]
    pub const fn in_base_units(self) -> Self {
        Self { scale: (1, 1), ..self }
    }

    /// The same with other bounds, in base units.
    #[must_use]
    pub const fn within(self, least: f64, most: f64) -> Self {
        Self { least, most, ..self }
    }
}

/// An amount that cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum QuantityError {
    /// Not a number with a unit of its kind.
    #[error("{name} is {said}, expected something like {example:?}")]
    Malformed {
        /// What it should be.
        name: &'static str,
        /// What was written.
        said: String,
        /// What could be written.
        example: &'static str,
    },
    /// A number that is none.
    #[error("{name} is {said}, which is no number")]
    NoNumber {
        /// What it should be.
        name: &'static str,
        /// What was written.
        said: String,
    },
    /// Less than nothing.
    #[error("{name} is negative: {said}")]
    Negative {
        /// What it should be.
        name: &'static str,
        /// What was written.
        said: String,
    },
    /// Nothing, where that makes no sense.
    #[error("{name} is zero")]
    Zero {
        /// What it should be.
        name: &'static str,
    },
    /// Beyond what exists.
    #[error("{name} is unbelievably {size}: {said} (an example: {example})")]
    Unbelievable {
        /// What it should be.
        name: &'static str,
        /// `small` or `large`.
        size: &'static str,
        /// What was written.
        said: String,
        /// What could be written.
        example: &'static str,
    },
}

/// Prefixes of units and what they stand for, as fractions.
const PREFIXES: [(&str, (u64, u64)); 16] = [
    ("n", (1, 1_000_000_000)),
    ("u", (1, 1_000_000)),
    ("\u{b5}", (1, 1_000_000)),
    ("\u{3bc}", (1, 1_000_000)),
    ("m", (1, 1000)),
    ("k", (1000, 1)),
    ("M", (1_000_000, 1)),
    ("G", (1_000_000_000, 1)),
    ("T", (1_000_000_000_000, 1)),
    ("P", (1_000_000_000_000_000, 1)),
    ("Ki", (1 << 10, 1)),
    ("Mi", (1 << 20, 1)),
    ("Gi", (1 << 30, 1)),
    ("Ti", (1 << 40, 1)),
    ("Pi", (1 << 50, 1)),
    ("", (1, 1)),
];

impl Quantity {
    /// The amount in stored units (bytes, bytes per second, nanoseconds, ...).
    ///
    /// # Errors
    /// On anything that is not an amount of that kind, or not a believable one.
    pub fn read(&self, kind: QuantityKind) -> Result<u64, QuantityError> {
        let (name, example, said) = (kind.name, kind.example, self.as_written());
        let (value, stored) = match self {
            Self::Whole(whole) => (*whole as f64, exact(*whole, kind.scale)),
            Self::Number(number) => (*number, None),
            Self::Text(text) => match parse(text, kind) {
                Some(Parsed { value, stored }) => (value, stored),
                None => return Err(QuantityError::Malformed { name, said, example }),
            },
        };
        if !value.is_finite() {
            return Err(QuantityError::NoNumber { name, said });
        }
        if value < 0.0 {
            return Err(QuantityError::Negative { name, said });
        }
        if value == 0.0 && kind.least > 0.0 {
            return Err(QuantityError::Zero { name });
        }
        if value < kind.least || value > kind.most {
            let size = if value < kind.least { "small" } else { "large" };
            return Err(QuantityError::Unbelievable { name, size, said, example });
        }
        // In range by the checks above; at least one unit, so that nothing divides by zero.
        let (times, by) = kind.scale;
        let stored = stored.unwrap_or_else(|| (value * times as f64 / by as f64).round() as u64);
        Ok(if kind.least > 0.0 { stored.max(1) } else { stored })
    }

    fn as_written(&self) -> String {
        match self {
            Self::Whole(whole) => whole.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A text as an amount: in base units for the checks, and in stored units to the last digit where that is possible.
struct Parsed {
    value: f64,
    stored: Option<u64>,
}

fn parse(text: &str, kind: QuantityKind) -> Option<Parsed> {
    let text = text.trim();
    let (number, unit) = text.split_at(number_length(text));
    let value: f64 = number.parse().ok()?;
    let (times, by) = factor(unit.trim(), kind)?;
    let value = value * times as f64 / by as f64;
    let scale = (u128::from(times) * u128::from(kind.scale.0), u128::from(by) * u128::from(kind.scale.1));
    Some(Parsed { value, stored: exact_decimal(number, scale) })
}

/// Length of the number that `text` begins with: `1.5e3`, but of `16EiB` no more than 16.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let end = sign + digits(sign);
    if end < bytes.len() && matches!(bytes[end], b'e' | b'E') {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let from = (end + 1 + sign).min(bytes.len());
        let exponent = digits(from);
        if exponent > 0 {
            return from + exponent;
        }
    }
    end
}

/// What a unit stands for in base units.
fn factor(unit: &str, kind: QuantityKind) -> Option<(u64, u64)> {
    let per = match unit.strip_suffix("ps") {
        Some(rest) if kind.per == "/s" => rest,
        _ => unit.strip_suffix(kind.per).unwrap_or(unit),
    };
    let of = |prefix: &str| PREFIXES.iter().find(|(name, _)| *name == prefix).map(|(_, factor)| *factor);
    // What is smaller than a base unit is a time.
    let sensible = |factor: (u64, u64)| (factor.1 == 1 || kind.unit == "s").then_some(factor);
    let with_unit = per.trim_end().strip_suffix(kind.unit).and_then(of);
    with_unit.or_else(|| of(per).filter(|_| kind.bare)).and_then(sensible)
}

/// `number`, a plain decimal, times a fraction, rounded; `None` where that is no exact arithmetic.
fn exact_decimal(number: &str, (times, by): (u128, u128)) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 18 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let by = by.checked_mul(10_u128.pow(fraction.len() as u32))?;
    u64::try_from(digits.checked_mul(times)?.checked_add(by / 2)? / by).ok()
}

fn exact(whole: i64, (times, by): (u64, u64)) -> Option<u64> {
    exact_decimal(&whole.to_string(), (times.into(), by.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: QuantityKind = QuantityKind::MEMORY;
    const LINK: QuantityKind = QuantityKind::LINK;
    const LATENCY: QuantityKind = QuantityKind::LATENCY;

    fn read(text: &str, kind: QuantityKind) -> Result<u64, QuantityError> {
        Quantity::from(text).read(kind)
    }

    #[test]
    fn units_are_read() {
        assert_eq!(read("16 GiB", MEMORY), Ok(16 << 30));
        assert_eq!(read("16GB", MEMORY), Ok(16_000_000_000));
        assert_eq!(read("59.7 GB/s", QuantityKind::MEMORY_BANDWIDTH), Ok(59_700_000_000));
        assert_eq!(read("100 Mbit/s", LINK), Ok(12_500_000));
        assert_eq!(read("2 ms", LATENCY), Ok(2_000_000));
        assert_eq!(read("1.5 TFLOP/s", QuantityKind::THROUGHPUT), Ok(1_500_000_000_000));
        assert_eq!(Quantity::Whole(1 << 30).read(MEMORY), Ok(1 << 30));
        assert_eq!(read("0 s", LATENCY), Ok(0));
        assert_eq!(Quantity::Number(0.001).read(LATENCY), Ok(1_000_000));
    }

    #[test]
    fn every_way_to_write_an_amount_is_the_same_amount() {
        let same: [(QuantityKind, u64, &[&str]); 6] = [
            (MEMORY, 8 << 30, &["8 GiB", "8GiB", "8Gi", "8 Gi", "8589934592", "8192Mi", " 8.0 GiB ", "0.0078125TiB"]),
            (MEMORY, 8_000_000_000, &["8G", "8 GB", "8e9", "8000M", "8e9 B"]),
            (LINK, 12_500_000, &["100Mbit", "100 Mbit/s", "100Mbitps", "0.1 Gbit", "100000000 bit/s"]),
            (QuantityKind::DISK, 1_200_000_000, &["1.2GB", "1.2 GB/s", "1.2GBps", "1200 MB/s", "1.2G"]),
            (QuantityKind::THROUGHPUT, 50_000_000_000, &["50GFLOP", "50 GFLOP/s", "0.05 TFLOP"]),
            (LATENCY, 500_000, &["500us", "500 us", "0.5 ms", "500\u{b5}s", "500000ns"]),
        ];
        for (kind, stored, texts) in same {
            for text in texts {
                assert_eq!(read(text, kind), Ok(stored), "{text:?}");
            }
        }
    }

    #[test]
    fn bytes_are_exact() {
        let kind = MEMORY.within(0.0, f64::MAX);
        assert_eq!(read("9007199254740993", kind), Ok(9_007_199_254_740_993));
        assert_eq!(Quantity::Whole(9_007_199_254_740_993).read(kind), Ok(9_007_199_254_740_993));
        assert_eq!(read("3.5Mi", kind), Ok(3_670_016));
    }

    #[test]
    fn nonsense_is_named() {
        let cases = [
            ("0 GiB", MEMORY, "memory is zero"),
            ("-1 GiB", MEMORY, "memory is negative"),
            ("900 TiB", MEMORY, "unbelievably large"),
            ("3 B", MEMORY, "unbelievably small"),
            ("plenty", MEMORY, "expected something like"),
            ("16 Gbit", MEMORY, "expected something like"),
            ("16 EiB", MEMORY, "expected something like"),
            ("16 mi", MEMORY, "expected something like"),
            ("16m", MEMORY, "expected something like"),
            ("1.2.3 GiB", MEMORY, "expected something like"),
            ("nan", LATENCY, "expected something like"),
            ("61 s", LATENCY, "unbelievably large"),
            ("2", LATENCY, "expected something like"),
            ("2 ms/s", LATENCY, "expected something like"),
            ("100", LINK, "expected something like"),
            ("100 M", LINK, "expected something like"),
            ("100 MB", LINK, "expected something like"),
            ("", LINK, "expected something like"),
        ];
        for (text, kind, expected) in cases {
            let found = read(text, kind).expect_err(text).to_string();
            assert!(found.contains(expected), "{text}: {found}");
        }
        assert!(Quantity::Number(f64::NAN).read(MEMORY).is_err());
        assert!(Quantity::Number(f64::INFINITY).read(LINK).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,24}") {
            for kind in [MEMORY, LINK, LATENCY, QuantityKind::THROUGHPUT] {
                let _ = read(&text, kind);
            }
        }
    }
}
