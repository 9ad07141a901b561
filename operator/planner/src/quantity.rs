//! Amounts as people write them: `16 GiB`, `59.7 GB/s`, `100 Mbit/s`, `2 ms`.

use serde::{Deserialize, Serialize};

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

/// A kind of amount: its unit suffix, what may stand before it, and what is believable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// What it is called in errors.
    pub(crate) name: &'static str,
    /// The base unit, which may be left out.
    pub(crate) unit: &'static str,
    /// Base units per stored unit: what the number is multiplied by before it is rounded.
    pub(crate) scale: f64,
    /// The smallest believable amount, in base units.
    pub(crate) least: f64,
    /// The largest believable amount, in base units.
    pub(crate) most: f64,
    /// An example for errors.
    pub(crate) example: &'static str,
}

pub(crate) const MEMORY: Kind = Kind {
    name: "memory",
    unit: "B",
    scale: 1.0,
    least: 1024.0 * 1024.0,
    most: 64.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
    example: "14 GiB",
};
pub(crate) const OVERHEAD: Kind = Kind { name: "overhead", least: 0.0, ..MEMORY };
pub(crate) const MEMORY_BANDWIDTH: Kind =
    Kind { name: "memoryBandwidth", unit: "B/s", scale: 1.0, least: 1e6, most: 1e14, example: "59.7 GB/s" };
pub(crate) const THROUGHPUT: Kind =
    Kind { name: "throughput", unit: "FLOP/s", scale: 1.0, least: 1e6, most: 1e16, example: "900 GFLOP/s" };
pub(crate) const DISK: Kind =
    Kind { name: "diskBandwidth", unit: "B/s", scale: 1.0, least: 1e4, most: 1e12, example: "1.2 GB/s" };
pub(crate) const LINK: Kind =
    Kind { name: "bandwidth", unit: "bit/s", scale: 0.125, least: 8e3, most: 1e13, example: "100 Mbit/s" };
pub(crate) const LATENCY: Kind =
    Kind { name: "latency", unit: "s", scale: 1e9, least: 0.0, most: 60.0, example: "500 us" };

const DECIMAL: [(&str, f64); 8] =
    [("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15)];
const BINARY: [(&str, f64); 4] = [("Ki", 1024.0), ("Mi", 1048576.0), ("Gi", 1073741824.0), ("Ti", 1099511627776.0)];

impl Quantity {
    /// The amount in stored units (bytes, bytes per second, nanoseconds, ...), or what is wrong with it.
    pub(crate) fn read(&self, kind: Kind) -> Result<u64, String> {
        let value = match self {
            Self::Whole(whole) => *whole as f64,
            Self::Number(number) => *number,
            Self::Text(text) => parse(text, kind)?,
        };
        let said = self.said();
        if !value.is_finite() {
            return Err(format!("{} is {said}, which is no number", kind.name));
        }
        if value < 0.0 {
            return Err(format!("{} is negative: {said}", kind.name));
        }
        if value == 0.0 && kind.least > 0.0 {
            return Err(format!("{} is zero", kind.name));
        }
        if value < kind.least || value > kind.most {
            let (size, example) = (if value < kind.least { "small" } else { "large" }, kind.example);
            return Err(format!("{} is unbelievably {size}: {said} (an example: {example})", kind.name));
        }
        // In range by the checks above; at least one unit, so that nothing divides by zero.
        let stored = (value * kind.scale).round() as u64;
        Ok(if kind.least > 0.0 { stored.max(1) } else { stored })
    }

    fn said(&self) -> String {
        match self {
            Self::Whole(whole) => whole.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

fn parse(text: &str, kind: Kind) -> Result<f64, String> {
    let wrong = || format!("{} is {text:?}, expected something like {:?}", kind.name, kind.example);
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(trimmed.len());
    // "1e3" is a number, but the E of "16 EiB" would not be: units start after a space or another letter.
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Ok(number);
    }
    let prefix = unit.strip_suffix(kind.unit).ok_or_else(wrong)?;
    if prefix.is_empty() {
        return Ok(number);
    }
    let known = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == prefix);
    known.map(|(_, factor)| number * factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: Kind) -> Result<u64, String> {
        Quantity::Text(text.to_owned()).read(kind)
    }

    #[test]
    fn units_are_read() {
        assert_eq!(read("16 GiB", MEMORY), Ok(16 << 30));
        assert_eq!(read("16GB", MEMORY), Ok(16_000_000_000));
        assert_eq!(read("59.7 GB/s", MEMORY_BANDWIDTH), Ok(59_700_000_000));
        assert_eq!(read("100 Mbit/s", LINK), Ok(12_500_000));
        assert_eq!(read("2 ms", LATENCY), Ok(2_000_000));
        assert_eq!(read("1.5 TFLOP/s", THROUGHPUT), Ok(1_500_000_000_000));
        assert_eq!(Quantity::Whole(1 << 30).read(MEMORY), Ok(1 << 30));
        assert_eq!(read("0 s", LATENCY), Ok(0));
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
            ("nan", LATENCY, "expected something like"),
            ("61 s", LATENCY, "unbelievably large"),
            ("", LINK, "expected something like"),
        ];
        for (text, kind, expected) in cases {
            let found = read(text, kind).expect_err(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
        assert!(Quantity::Number(f64::NAN).read(MEMORY).is_err());
        assert!(Quantity::Number(f64::INFINITY).read(LINK).is_err());
    }
}
