//! Bandwidths, speeds and durations of devices that this machine plays, in the grammar of every other file (see
//! [`lime_plan::Quantity`]), within wider bounds: toys are welcome.

use std::time::Duration;

use lime_plan::{Bytes, Quantity, QuantityError, QuantityKind};

/// Memory of a device.
pub(crate) fn memory(amount: &Quantity) -> Result<Bytes, QuantityError> {
    amount.read(QuantityKind::MEMORY.within(1.0, QuantityKind::MEMORY.most)).map(Bytes)
}

/// Bits per second of a link.
pub(crate) fn bits_per_second(amount: &Quantity) -> Result<u64, QuantityError> {
    amount.read(QuantityKind::LINK.within(1.0, 1e15).in_base_units())
}

/// Bytes per second, called `name`.
pub(crate) fn bytes_per_second(amount: &Quantity, name: &'static str) -> Result<u64, QuantityError> {
    amount.read(QuantityKind::DISK.within(1.0, 1e15).named(name))
}

/// Operations per second.
pub(crate) fn flops_per_second(amount: &Quantity) -> Result<u64, QuantityError> {
    amount.read(QuantityKind::THROUGHPUT.within(1.0, 1e18))
}

/// A span of time up to an hour, called `name`.
pub(crate) fn duration(amount: &Quantity, name: &'static str) -> Result<Duration, QuantityError> {
    amount.read(QuantityKind::LATENCY.within(0.0, 3600.0).named(name)).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_of_links_are_bits() {
        for (text, bits) in [
            ("100Mbit", 100_000_000),
            ("100 Mbit/s", 100_000_000),
            ("2.5Gbit/s", 2_500_000_000),
            ("56 kbit", 56_000),
            ("1000bitps", 1000),
            ("3bit", 3),
        ] {
            assert_eq!(bits_per_second(&text.into()), Ok(bits), "{text}");
        }
        for text in ["", "100", "100MB", "0Mbit", "-1Mbit", "Mbit", "100 M bit", "1.2.3Mbit", "infMbit"] {
            assert!(bits_per_second(&text.into()).is_err(), "{text}");
        }
        let error = bits_per_second(&"fast".into()).unwrap_err().to_string();
        assert_eq!(error, "bandwidth is \"fast\", expected something like \"100 Mbit/s\"");
    }

    #[test]
    fn bandwidths_of_disks_are_bytes() {
        let read = |text: &str| bytes_per_second(&text.into(), "bandwidth");
        for (text, bytes) in [("200MB", 200_000_000), ("1.5GB/s", 1_500_000_000), ("64MiB", 64 << 20), ("1kB", 1000)] {
            assert_eq!(read(text), Ok(bytes), "{text}");
        }
        for text in ["", "200Mbit", "0MB", "200mb", "99999999999999999999GB"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_name_their_unit() {
        let read = |text: &str| duration(&text.into(), "latency");
        for (text, micros) in [("2ms", 2000), ("500 us", 500), ("1.5s", 1_500_000), ("0s", 0), ("1000ns", 1)] {
            assert_eq!(read(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "2", "2m", "2 min", "-1ms", "2ms3", "7200s", "99999999999999999999s"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
