//! From figures to the status of a LimeNodeProfile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use lime_api::{
    DiskStatus, FormatFigures, LimeNodeProfileStatus, LinkStatus, MemoryStatus, binary_bytes, bytes_per_second,
};

use crate::figures::{Disk, Figures, Machine};
use crate::peers::Peers;

/// The condition that says whether processor and memory were measured.
pub const PROCESSOR_MEASURED: &str = "ProcessorMeasured";
/// The condition that says whether the disk was measured.
pub const DISK_MEASURED: &str = "DiskMeasured";
/// The reason of those two where others used the machine meanwhile.
pub const MEASURED_WHILE_BUSY: &str = "MeasuredWhileBusy";

/// The status that the figures make, at a time. Conditions that did not change keep the time of their last transition.
#[must_use]
pub fn status(
    figures: &Figures,
    peers: &Peers,
    link_endpoint: Option<&str>,
    written: Option<&LimeNodeProfileStatus>,
    now: Timestamp,
) -> LimeNodeProfileStatus {
    let earlier = written.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let conditions =
        [fresh(), processor_measured(&figures.machine), disk_measured(&figures.disk), links_measured(figures, peers)];
    LimeNodeProfileStatus {
        conditions: conditions.into_iter().map(|verdict| verdict.condition(earlier, now)).collect(),
        measured_at: Some(Time(now)),
        architecture: Some(architecture().to_owned()),
        cores: i32::try_from(figures.machine.cores).ok(),
        memory: figures.memory.map(|memory| MemoryStatus {
            total_bytes: whole(memory.total_bytes),
            available_bytes: whole(memory.available_bytes),
            low_water_bytes: figures.low_water_bytes.map(whole),
            lime_bytes: None,
            available: Some(binary_bytes(memory.available_bytes)),
        }),
        memory_bandwidth_bytes_per_second: figures.machine.memory_bytes_per_second.map(whole),
        compact_bandwidth_bytes_per_second: figures.machine.compact_bytes_per_second.map(whole),
        matrix_operations_per_second: figures.machine.operations_per_second.map(whole),
        formats: figures
            .machine
            .formats
            .iter()
            .filter_map(|(format, speed)| FormatFigures::measured(*format, *speed))
            .collect(),
        disk: Some(DiskStatus {
            read_bytes_per_second: figures.disk.read_bytes_per_second.map(whole),
            free_bytes: figures.disk.free_bytes.map(whole),
            total_bytes: figures.disk.total_bytes.map(whole),
            read: figures.disk.read_bytes_per_second.map(bytes_per_second),
        }),
        link_endpoint: link_endpoint.map(str::to_owned),
        links: figures
            .links
            .iter()
            .map(|(peer, link)| LinkStatus {
                peer: peer.clone(),
                bandwidth_bits_per_second: Some(whole(link.bits_per_second)),
                round_trip_microseconds: Some(whole(link.round_trip_microseconds)),
                measured_at: link.measured_at.map(Time),
            })
            .collect(),
        ..LimeNodeProfileStatus::default()
    }
}

/// A condition before it has a time.
struct NodeCondition {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl NodeCondition {
    fn condition(self, earlier: &[Condition], now: Timestamp) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let same = earlier.iter().find(|condition| condition.type_ == self.kind && condition.status == status);
        Condition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message,
            last_transition_time: same.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            observed_generation: None,
        }
    }
}

fn fresh() -> NodeCondition {
    let message = "the agent reports; its heartbeat is the Lease of the node".to_owned();
    NodeCondition { kind: "Fresh", holds: true, reason: "Reporting", message }
}

/// The reason for a figure that is there, and what is said of it.
fn measured(busy: bool, what: String) -> (&'static str, String) {
    if busy {
        let text = format!("{what}, measured while others used the machine: measured again when it is quiet");
        return (MEASURED_WHILE_BUSY, text);
    }
    ("Measured", what)
}

fn processor_measured(machine: &Machine) -> NodeCondition {
    let kind = PROCESSOR_MEASURED;
    let Some(speed) = machine.memory_bytes_per_second else {
        let message = "the processor is measured when the node has been idle for a moment".to_owned();
        return NodeCondition { kind, holds: false, reason: "Pending", message };
    };
    let (reason, message) = measured(machine.busy, format!("compute reads memory at {}", bytes_per_second(speed)));
    NodeCondition { kind, holds: true, reason, message }
}

fn disk_measured(disk: &Disk) -> NodeCondition {
    let kind = DISK_MEASURED;
    match (&disk.problem, disk.read_bytes_per_second) {
        (Some(problem), _) => NodeCondition { kind, holds: false, reason: "Failed", message: problem.clone() },
        (None, Some(speed)) => {
            let (reason, message) = measured(disk.busy, format!("the weight store reads {}", bytes_per_second(speed)));
            NodeCondition { kind, holds: true, reason, message }
        }
        (None, None) => {
            let message = "the disk is measured when the node has been idle for a moment".to_owned();
            NodeCondition { kind, holds: false, reason: "Pending", message }
        }
    }
}

fn links_measured(figures: &Figures, peers: &Peers) -> NodeCondition {
    let (known, all) = (figures.links.len(), peers.count());
    let (holds, reason, message) = match all {
        0 => (true, "NoPeers", "no other node has an agent".to_owned()),
        _ if known >= all && peers.silent() > 0 => {
            let silent = peers.silent();
            (
                true,
                "Unanswered",
                format!("the ways to {all} other nodes were measured; {silent} of them do not answer now"),
            )
        }
        _ if known >= all => (true, "Measured", format!("the ways to {all} other nodes are measured")),
        _ => (false, "Pending", format!("the ways to {known} of {all} other nodes are measured")),
    };
    NodeCondition { kind: "LinksMeasured", holds, reason, message }
}

/// The architecture as Kubernetes names it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Link, Machine};
    use crate::memory::Memory;
    use std::collections::BTreeMap;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_new_agent_says_what_it_does_not_know_yet() {
        let status = status(&Figures::default(), &Peers::default(), None, None, at(0));
        let told: Vec<_> =
            status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect();
        assert_eq!(
            told,
            [
                ("Fresh", "True", "Reporting"),
                ("ProcessorMeasured", "False", "Pending"),
                ("DiskMeasured", "False", "Pending"),
                ("LinksMeasured", "True", "NoPeers")
            ]
        );
        assert!(status.memory.is_none());
        let written = serde_json::to_string(&status).unwrap();
        assert!(!written.contains("null"), "server-side apply would claim nulls: {written}");
    }

    #[test]
    fn conditions_keep_their_time_until_they_turn() {
        let mut peers = Peers::default();
        let mut figures = Figures {
            memory: Some(Memory { total_bytes: 1 << 34, available_bytes: 1 << 33 }),
            machine: Machine { cores: 4, ..Machine::default() },
            ..Figures::default()
        };
        peers.update(BTreeMap::from([("b".to_owned(), "b:1".to_owned())]), &mut figures.links);
        let first = status(&figures, &peers, Some("a:1"), None, at(10));
        figures.links.insert(
            "b".into(),
            Link { bits_per_second: 95_700_000, round_trip_microseconds: 800, measured_at: Some(at(15)) },
        );
        let second = status(&figures, &peers, Some("a:1"), Some(&first), at(20));
        let time = |status: &LimeNodeProfileStatus, kind: &str| {
            status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.last_transition_time.0)
        };
        assert_eq!(time(&second, "Fresh"), Some(at(10)));
        assert_eq!(time(&second, "LinksMeasured"), Some(at(20)));
        assert_eq!(second.links[0].round_trip_microseconds, Some(800));
        assert_eq!(second.memory.unwrap().available.as_deref(), Some("8Gi"));
    }
}
