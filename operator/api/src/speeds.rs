//! What a profile says of a node's speeds and links, where it can be believed: a profile is written by somebody else.

use lime_plan::{Link, Nanos};
use thiserror::Error;

use crate::{DiskStatus, LimeNodeProfile};

/// How fast a node is, overrides of its administrator included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSpeeds {
    /// Bytes per second at which compute reads memory.
    pub memory_bandwidth: u64,
    /// Bytes per second of compact weights that compute gets through.
    pub compact_bandwidth: Option<u64>,
    /// Floating-point operations per second in matrix products of many rows.
    pub throughput: u64,
    /// Bytes per second that the weight store reads.
    pub disk_bandwidth: Option<u64>,
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

impl LimeNodeProfile {
    /// How fast the node is.
    ///
    /// # Errors
    /// When a figure is missing that every plan needs.
    pub fn speeds(&self) -> Result<NodeSpeeds, FigureError> {
        let status = self.status.clone().unwrap_or_default();
        let overrides = self.spec.overrides.clone().unwrap_or_default();
        let figure = |what: &'static str, said: Option<i64>, least: i64, most: i64| {
            believable(said, least, most).ok_or(FigureError { what, said })
        };
        let memory_bandwidth = figure(
            "memory bandwidth in bytes per second",
            overrides.memory_bandwidth_bytes_per_second.or(status.memory_bandwidth_bytes_per_second),
            1_000_000,
            100_000_000_000_000,
        )?;
        let compact = overrides.compact_bandwidth_bytes_per_second.or(status.compact_bandwidth_bytes_per_second);
        let throughput = figure(
            "matrix operations per second",
            overrides.matrix_operations_per_second.or(status.matrix_operations_per_second),
            1_000_000,
            10_000_000_000_000_000,
        )?;
        let DiskStatus { read_bytes_per_second, .. } = status.disk.unwrap_or_default();
        let read = overrides.disk_read_bytes_per_second.or(read_bytes_per_second);
        Ok(NodeSpeeds {
            memory_bandwidth,
            compact_bandwidth: believable(compact, 1_000_000, 100_000_000_000_000),
            throughput,
            disk_bandwidth: believable(read, 10_000, 1_000_000_000_000),
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
    use crate::{LimeNodeProfileSpec, LimeNodeProfileStatus, LinkStatus, ProfileOverrides};

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
}
