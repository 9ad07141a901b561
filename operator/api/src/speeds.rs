//! What a profile says of a node's speeds and links, where it can be believed: a profile is written by somebody else.

use std::collections::BTreeMap;

use lime_plan::{Bytes, Format, FormatSpeed, Link, Nanos, NodeProfile};
use thiserror::Error;

use crate::profile::{DiskStatus, FormatFigures, LimeNodeProfile, LimeNodeProfileStatus, ProfileOverrides};

/// How fast a node is, overrides of its administrator included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpeeds {
    /// Bytes per second at which compute reads memory.
    pub memory_bandwidth: u64,
    /// Bytes per second of compact weights that compute gets through.
    pub compact_bandwidth: Option<u64>,
    /// Floating-point operations per second in matrix products of many rows.
    pub throughput: u64,
    /// Bytes per second that the weight store reads.
    pub disk_bandwidth: Option<u64>,
    /// Speeds with weights of single formats.
    pub formats: BTreeMap<Format, FormatSpeed>,
}

impl NodeSpeeds {
    /// The node that is so fast, for the planner.
    pub fn node(self, name: String, memory: Bytes, overhead: Bytes) -> NodeProfile {
        let Self { memory_bandwidth, compact_bandwidth, throughput, disk_bandwidth, formats } = self;
        NodeProfile {
            name,
            memory,
            overhead,
            memory_bandwidth,
            compact_bandwidth,
            throughput,
            disk_bandwidth,
            block_latency: Nanos::ZERO,
            formats,
        }
    }
}

/// A figure without which nothing can be planned, and that is not there or makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("says {} for its {what}", .said.map_or("nothing".to_owned(), |value| value.to_string()))]
pub struct FigureError {
    /// The figure.
    pub what: &'static str,
    /// What the profile says.
    pub said: Option<i64>,
}

/// A figure within its bounds.
pub fn believable(value: Option<i64>, least: i64, most: i64) -> Option<u64> {
    value.filter(|value| (least..=most).contains(value)).and_then(|value| u64::try_from(value).ok())
}

/// The least that is believed of memory, in bytes, and of products, in operations, per second.
const SLOWEST: i64 = 1_000_000;
/// The most that is believed of memory.
const FASTEST_MEMORY: i64 = 100_000_000_000_000;
/// The most that is believed of products.
const FASTEST_PRODUCTS: i64 = 10_000_000_000_000_000;

impl FormatFigures {
    /// What was measured with a format; nothing where nobody would believe it, and the API server would refuse all that is written with it.
    pub fn measured(format: Format, speed: FormatSpeed) -> Option<Self> {
        let figure = |value: u64, most: i64| {
            let value = i64::try_from(value).ok()?;
            believable(Some(value), SLOWEST, most).map(|_| value)
        };
        Some(Self {
            format: format.to_string(),
            memory_bandwidth_bytes_per_second: Some(figure(speed.memory_bandwidth, FASTEST_MEMORY)?),
            matrix_operations_per_second: Some(figure(speed.throughput, FASTEST_PRODUCTS)?),
        })
    }
}

/// Speeds of the formats that are named. A figure is what the administrator says of the format, else what they say of all, else what was
/// measured with it, else the general one. Formats that this build does not know, and figures that make no sense, are passed over.
fn format_speeds(
    measured: &[FormatFigures],
    overrides: &ProfileOverrides,
    general: FormatSpeed,
) -> BTreeMap<Format, FormatSpeed> {
    let of = |figures: &[FormatFigures], format: Format| {
        figures.iter().find(|figures| figures.format.parse() == Ok(format)).cloned()
    };
    let memory = |said: Option<i64>| believable(said, SLOWEST, FASTEST_MEMORY);
    let products = |said: Option<i64>| believable(said, SLOWEST, FASTEST_PRODUCTS);
    let speed = |format: Format| {
        let (said, found) = (of(&overrides.formats, format), of(measured, format));
        if said.is_none() && found.is_none() {
            return None;
        }
        let (said, found) = (said.unwrap_or_default(), found.unwrap_or_default());
        let memory_bandwidth = memory(said.memory_bandwidth_bytes_per_second)
            .or_else(|| memory(overrides.memory_bandwidth_bytes_per_second))
            .or_else(|| memory(found.memory_bandwidth_bytes_per_second));
        let throughput = products(said.matrix_operations_per_second)
            .or_else(|| products(overrides.matrix_operations_per_second))
            .or_else(|| products(found.matrix_operations_per_second));
        Some(FormatSpeed {
            memory_bandwidth: memory_bandwidth.unwrap_or(general.memory_bandwidth),
            throughput: throughput.unwrap_or(general.throughput),
        })
    };
    Format::ALL.into_iter().filter_map(|format| Some((format, speed(format)?))).collect()
}

impl LimeNodeProfile {
    /// How fast the node is.
    ///
    /// # Errors
    /// When a figure is missing that every plan needs.
    pub fn speeds(&self) -> Result<NodeSpeeds, FigureError> {
        let status: LimeNodeProfileStatus = self.status.clone().unwrap_or_default();
        let overrides = self.spec.overrides.clone().unwrap_or_default();
        let figure = |what: &'static str, said: Option<i64>, least: i64, most: i64| {
            believable(said, least, most).ok_or(FigureError { what, said })
        };
        let memory_bandwidth = figure(
            "memory bandwidth in bytes per second",
            overrides.memory_bandwidth_bytes_per_second.or(status.memory_bandwidth_bytes_per_second),
            SLOWEST,
            FASTEST_MEMORY,
        )?;
        let compact = overrides.compact_bandwidth_bytes_per_second.or(status.compact_bandwidth_bytes_per_second);
        let throughput = figure(
            "matrix operations per second",
            overrides.matrix_operations_per_second.or(status.matrix_operations_per_second),
            SLOWEST,
            FASTEST_PRODUCTS,
        )?;
        let DiskStatus { read_bytes_per_second, .. } = status.disk.unwrap_or_default();
        let read = overrides.disk_read_bytes_per_second.or(read_bytes_per_second);
        Ok(NodeSpeeds {
            memory_bandwidth,
            compact_bandwidth: believable(compact, SLOWEST, FASTEST_MEMORY),
            throughput,
            disk_bandwidth: believable(read, 10_000, 1_000_000_000_000),
            formats: format_speeds(&status.formats, &overrides, FormatSpeed { memory_bandwidth, throughput }),
        })
    }

    /// The measured ways to other nodes.
    pub fn measured_links(&self) -> impl Iterator<Item = (&str, Link)> {
        let links = self.status.iter().flat_map(|status| &status.links);
        links.filter_map(|link| {
            let bits = believable(link.bandwidth_bits_per_second, 8_000, 10_000_000_000_000)?;
            let round_trip = believable(link.round_trip_microseconds, 0, 60_000_000)?;
            Some((link.peer.as_str(), Link { bandwidth: (bits / 8).max(1), latency: Nanos(round_trip * 500) }))
        })
    }
}

/// What a link is taken for until it has been measured: 100 Mbit/s, a millisecond. Rather too slow than too fast.
pub const UNMEASURED_LINK: Link = Link { bandwidth: 12_500_000, latency: Nanos(1_000_000) };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{LimeNodeProfileSpec, LinkStatus};

    #[test]
    fn overrides_come_first_and_nonsense_is_named() {
        let mut profile = LimeNodeProfile::new("a", LimeNodeProfileSpec::default());
        let said = profile.speeds().unwrap_err();
        assert_eq!(said.to_string(), "says nothing for its memory bandwidth in bytes per second");
        profile.status = Some(LimeNodeProfileStatus {
            memory_bandwidth_bytes_per_second: Some(5_000_000_000),
            matrix_operations_per_second: Some(7),
            links: vec![
                LinkStatus {
                    peer: "b".into(),
                    bandwidth_bits_per_second: Some(8_000_000),
                    round_trip_microseconds: Some(400),
                    measured_at: None,
                },
                LinkStatus {
                    peer: "c".into(),
                    bandwidth_bits_per_second: Some(-1),
                    round_trip_microseconds: Some(400),
                    measured_at: None,
                },
            ],
            ..LimeNodeProfileStatus::default()
        });
        assert_eq!(profile.speeds().unwrap_err().to_string(), "says 7 for its matrix operations per second");
        profile.spec.overrides = Some(ProfileOverrides {
            matrix_operations_per_second: Some(20_000_000_000),
            disk_read_bytes_per_second: Some(0),
            ..ProfileOverrides::default()
        });
        let found = profile.speeds().unwrap();
        assert_eq!((found.memory_bandwidth, found.throughput), (5_000_000_000, 20_000_000_000));
        assert_eq!(found.disk_bandwidth, None, "0 forbids the disk");
        let links: Vec<_> = profile.measured_links().collect();
        assert_eq!(links, [("b", Link { bandwidth: 1_000_000, latency: Nanos(200_000) })]);
    }

    #[test]
    fn what_nobody_would_believe_is_not_written() {
        let figures = |memory_bandwidth, throughput| {
            FormatFigures::measured(Format::Q6K, FormatSpeed { memory_bandwidth, throughput })
        };
        let sound = figures(2_000_000_000, 60_000_000_000).unwrap();
        assert_eq!((sound.format.as_str(), sound.memory_bandwidth_bytes_per_second), ("Q6_K", Some(2_000_000_000)));
        for (memory, products) in [(0, 60_000_000_000), (2_000_000_000, u64::MAX), (u64::MAX, 0)] {
            assert_eq!(figures(memory, products), None);
        }
    }

    #[test]
    fn a_format_has_its_own_speed_and_the_administrators_word_counts_more() {
        let figures = |format: &str, memory, products| FormatFigures {
            format: format.into(),
            memory_bandwidth_bytes_per_second: memory,
            matrix_operations_per_second: products,
        };
        let mut profile = LimeNodeProfile::new("a", LimeNodeProfileSpec::default());
        profile.status = Some(LimeNodeProfileStatus {
            memory_bandwidth_bytes_per_second: Some(5_000_000_000),
            matrix_operations_per_second: Some(20_000_000_000),
            formats: vec![
                figures("Q4_K", Some(2_000_000_000), Some(60_000_000_000)),
                figures("q8_0", Some(4_000_000_000), Some(-1)),
                figures("Q9_Z", Some(1_000_000_000), Some(1_000_000_000)),
            ],
            ..LimeNodeProfileStatus::default()
        });
        let speed = |profile: &LimeNodeProfile, format| {
            let node = profile.speeds().unwrap().node("a".into(), Bytes::gib(1), Bytes::ZERO);
            let FormatSpeed { memory_bandwidth, throughput } = node.speed(format);
            (memory_bandwidth / 1_000_000_000, throughput / 1_000_000_000)
        };
        assert_eq!(speed(&profile, Format::Q4K), (2, 60));
        assert_eq!(speed(&profile, Format::Q8_0), (4, 20), "what makes no sense is as if it were not there");
        assert_eq!(speed(&profile, Format::Q6K), (5, 20), "what was not measured is as weights in general");
        assert_eq!(profile.speeds().unwrap().formats.len(), 2, "a newer agent's format is passed over");
        profile.spec.overrides = Some(ProfileOverrides {
            memory_bandwidth_bytes_per_second: Some(3_000_000_000),
            formats: vec![figures("Q4_K", None, Some(70_000_000_000)), figures("Q6_K", Some(1_000_000_000), None)],
            ..ProfileOverrides::default()
        });
        assert_eq!(speed(&profile, Format::Q4K), (3, 70), "a figure for all stands in for measured ones of a format");
        assert_eq!(speed(&profile, Format::Q6K), (1, 20));
        assert_eq!(speed(&profile, Format::Bf16), (3, 20));
    }
}
