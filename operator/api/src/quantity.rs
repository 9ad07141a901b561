//! Kubernetes quantities as bytes: `512Mi`, `1.5Gi`, `4G`, `1048576`.

use lime_plan::Bytes;
use thiserror::Error;

/// A text that is no quantity of bytes.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    /// Not a number with a known suffix.
    #[error("{0:?} is not a quantity of bytes: write a number and a suffix such as 512Mi, 1.5Gi or 4G")]
    Malformed(String),
    /// A number that is too large to count.
    #[error("{0:?} is more bytes than can be counted (the limit is 16Ei)")]
    TooLarge(String),
}

/// Reads a quantity as bytes, rounded down to a whole byte.
///
/// # Errors
/// On anything that is not a plain decimal number followed by nothing, `k`, `M`, `G`, `T`, `P`, `E` or their binary forms `Ki` to `Ei`.
pub fn parse_bytes(text: &str) -> Result<Bytes, QuantityError> {
    let malformed = || QuantityError::Malformed(text.to_owned());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, suffix) = trimmed.split_at(split);
    let unit: u128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        _ => return Err(malformed()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits_only(whole) || !digits_only(fraction) {
        return Err(malformed());
    }
    let too_large = || QuantityError::TooLarge(text.to_owned());
    // 18 digits and 60 bits fit into 128; further digits of the fraction are less than a byte.
    let parse = |part: &str| {
        if part.is_empty() { Some(0_u128) } else { part.parse().ok() }
    };
    let fraction = &fraction[..fraction.len().min(18)];
    let whole_bytes = parse(whole).and_then(|whole| whole.checked_mul(unit)).ok_or_else(too_large)?;
    let scale = 10_u128.pow(fraction.len() as u32);
    let part_bytes = parse(fraction).ok_or_else(malformed)? * unit / scale;
    let bytes = whole_bytes.checked_add(part_bytes).ok_or_else(too_large)?;
    u64::try_from(bytes).map(Bytes).map_err(|_| too_large())
}

/// Bytes for people, as Kubernetes writes them, rounded down to a tenth: `13.4Gi`.
pub fn binary_bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["", "Ki", "Mi", "Gi", "Ti"])
}

/// Bytes per second for people: `2.1GB/s`.
pub fn bytes_per_second(bytes: u64) -> String {
    scaled(bytes, 1000, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

fn scaled(value: u64, step: u64, units: &[&str]) -> String {
    let mut size = 1;
    let mut chosen = 0;
    while chosen + 1 < units.len() && value / size >= step {
        size *= step;
        chosen += 1;
    }
    let tenths = u128::from(value) * 10 / u128::from(size);
    match (chosen, tenths % 10) {
        (0, _) | (_, 0) => format!("{}{}", tenths / 10, units[chosen]),
        (_, tenth) => format!("{}.{tenth}{}", tenths / 10, units[chosen]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        let cases = [
            (0, "0", "0B/s"),
            (1023, "1023", "1kB/s"),
            (1 << 20, "1Mi", "1MB/s"),
            (14_388_000_000, "13.3Gi", "14.3GB/s"),
            (u64::MAX, "16777215.9Ti", "18446744TB/s"),
        ];
        for (bytes, size, speed) in cases {
            assert_eq!(binary_bytes(bytes), size);
            let found = bytes_per_second(bytes);
            assert!(found.starts_with(speed.trim_end_matches("TB/s")), "{found}");
        }
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let table = [
            ("0", 0),
            ("4096", 4096),
            ("1k", 1000),
            ("1Ki", 1024),
            ("4Mi", 4 << 20),
            ("1.5Gi", 3 << 29),
            ("3.5Mi", 3_670_016),
            (".5Ki", 512),
            ("2.", 2),
            ("15Ei", 15 << 60),
            ("4G", 4_000_000_000),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_bytes(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", ".", "Mi", "4 Mi", "4MB", "-1", "1e3", "1.2.3", "４Mi", "4mi"] {
            let error = parse_bytes(text).unwrap_err();
            assert_eq!(error, QuantityError::Malformed(text.to_owned()));
            assert!(error.to_string().contains("512Mi"), "{error}");
        }
        for text in ["16Ei", "99999999999999999999999999999999999999999999", "1000E"] {
            assert_eq!(parse_bytes(text), Err(QuantityError::TooLarge(text.to_owned())));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse_bytes(&text);
        }

        #[test]
        fn whole_numbers_are_exact(value in 0_u64..(1 << 40), shift in 0_usize..3) {
            let suffix = ["", "Ki", "Mi"][shift];
            proptest::prop_assert_eq!(parse_bytes(&format!("{value}{suffix}")), Ok(Bytes(value << (10 * shift))));
        }
    }
}
