//! What an earlier agent of this node measured, out of the profile that it wrote. It stands until it is measured anew: an agent that
//! starts, on all nodes at once with every upgrade, must not make the nodes unknown.

use lime_api::LimeNodeProfileStatus;
use lime_profiler::FormatSpeed;

use crate::figures::{Disk, Figures, Link, Machine};
use crate::status::{DISK_MEASURED, MEASURED_WHILE_BUSY, PROCESSOR_MEASURED};

/// The figures of a profile that take time to measure. What has changed its number of cores is another machine, and only the ways
/// to the others are believed of it.
#[must_use]
pub fn figures(status: &LimeNodeProfileStatus, cores: u32) -> Figures {
    let links = status.links.iter().filter_map(|link| {
        let bits_per_second = whole(link.bandwidth_bits_per_second)?;
        let round_trip_microseconds = whole(link.round_trip_microseconds)?;
        let measured_at = link.measured_at.as_ref().map(|time| time.0);
        Some((link.peer.clone(), Link { bits_per_second, round_trip_microseconds, measured_at }))
    });
    let mut carried = Figures { links: links.collect(), ..Figures::default() };
    carried.machine.cores = cores;
    if status.cores.and_then(|cores| u32::try_from(cores).ok()) != Some(cores) {
        return carried;
    }
    let busy = |kind: &str| {
        status.conditions.iter().any(|condition| condition.type_ == kind && condition.reason == MEASURED_WHILE_BUSY)
    };
    let formats = status.formats.iter().filter_map(|figures| {
        let memory_bandwidth = whole(figures.memory_bandwidth_bytes_per_second)?;
        let throughput = whole(figures.matrix_operations_per_second)?;
        Some((figures.format.parse().ok()?, FormatSpeed { memory_bandwidth, throughput }))
    });
    carried.machine = Machine {
        cores,
        memory_bytes_per_second: whole(status.memory_bandwidth_bytes_per_second),
        compact_bytes_per_second: whole(status.compact_bandwidth_bytes_per_second),
        operations_per_second: whole(status.matrix_operations_per_second),
        formats: formats.collect(),
        busy: busy(PROCESSOR_MEASURED),
    };
    let read_bytes_per_second = status.disk.as_ref().and_then(|disk| whole(disk.read_bytes_per_second));
    carried.disk = Disk { read_bytes_per_second, busy: busy(DISK_MEASURED), ..Disk::default() };
    carried
}

/// A figure that somebody may have written by hand.
fn whole(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::jiff::Timestamp;

    use lime_profiler::Format;

    use super::*;
    use crate::peers::Peers;
    use crate::status::status;

    fn link() -> Link {
        let measured_at = Some(Timestamp::UNIX_EPOCH);
        Link { bits_per_second: 1_000_000, round_trip_microseconds: 800, measured_at }
    }

    fn measured(busy: bool) -> Figures {
        Figures {
            machine: Machine {
                cores: 4,
                memory_bytes_per_second: Some(9_000_000_000),
                compact_bytes_per_second: None,
                operations_per_second: Some(50_000_000_000),
                formats: BTreeMap::from([
                    (Format::Q4K, FormatSpeed { memory_bandwidth: 4_000_000_000, throughput: 90_000_000_000 }),
                    (Format::Q8_0, FormatSpeed { memory_bandwidth: 8_000_000_000, throughput: 80_000_000_000 }),
                ]),
                busy,
            },
            disk: Disk { read_bytes_per_second: Some(2_000_000_000), busy, ..Disk::default() },
            links: BTreeMap::from([("b".into(), link())]),
            ..Figures::default()
        }
    }

    #[test]
    fn what_one_agent_wrote_the_next_one_knows() {
        for busy in [false, true] {
            let written = status(&measured(busy), &Peers::default(), None, None, Timestamp::UNIX_EPOCH);
            assert_eq!(figures(&written, 4), measured(busy));
            // And it writes the same again.
            let again = status(&figures(&written, 4), &Peers::default(), None, Some(&written), Timestamp::UNIX_EPOCH);
            assert_eq!(again, written);
        }
    }

    #[test]
    fn another_machine_under_the_same_name_is_measured_anew() {
        let written = status(&measured(false), &Peers::default(), None, None, Timestamp::UNIX_EPOCH);
        let carried = figures(&written, 8);
        assert_eq!((carried.machine.memory_bytes_per_second, carried.disk.read_bytes_per_second), (None, None));
        assert_eq!(carried.links, measured(false).links);
    }

    #[test]
    fn nonsense_is_not_carried_on() {
        let mut written = status(&measured(false), &Peers::default(), None, None, Timestamp::UNIX_EPOCH);
        written.memory_bandwidth_bytes_per_second = Some(-1);
        written.disk = None;
        written.formats[0].format = "Q9_Z".into();
        written.formats[1].matrix_operations_per_second = Some(-1);
        written.links[0].bandwidth_bits_per_second = Some(0);
        let carried = figures(&written, 4);
        assert_eq!((carried.machine.memory_bytes_per_second, carried.disk.read_bytes_per_second), (None, None));
        assert!(carried.links.is_empty() && carried.machine.formats.is_empty());
        assert_eq!(figures(&LimeNodeProfileStatus::default(), 4).machine.cores, 4);
    }
}
