//! Whether a status is worth writing: the datastore of a small cluster is slow, and most measurements only jitter.

use lime_api::{LimeNodeProfileStatus, PROFILE_REFRESH_SECONDS};

/// Values that differ by less than this share of the greater one count as equal.
const SHARE: f64 = 0.10;

/// Why a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was none.
    First,
    /// Something that is no figure changed: a condition, a peer, the accelerator.
    Changed,
    /// A figure moved by a tenth.
    Moved,
    /// The last one is ten minutes old.
    Refresh,
}

/// Why `now` should be written over what was `written` so many seconds ago, or nothing when it need not be.
#[must_use]
pub fn worth_writing(
    written: Option<&LimeNodeProfileStatus>,
    now: &LimeNodeProfileStatus,
    age_seconds: u64,
) -> Option<Reason> {
    let Some(written) = written else { return Some(Reason::First) };
    if shape(written) != shape(now) {
        return Some(Reason::Changed);
    }
    let pairs = figures(written).into_iter().zip(figures(now));
    if pairs.into_iter().any(|(before, after)| moved(before, after)) {
        return Some(Reason::Moved);
    }
    let refresh = u64::try_from(PROFILE_REFRESH_SECONDS).unwrap_or(u64::MAX);
    (age_seconds >= refresh).then_some(Reason::Refresh)
}

fn moved(before: Option<i64>, after: Option<i64>) -> bool {
    match (before, after) {
        (None, None) => false,
        #[allow(clippy::cast_precision_loss)] // A tenth is coarse enough.
        (Some(before), Some(after)) => {
            let (before, after) = (before as f64, after as f64);
            (before - after).abs() > SHARE * before.abs().max(after.abs())
        }
        _ => true,
    }
}

/// The figures, in one fixed order for statuses of one shape.
fn figures(status: &LimeNodeProfileStatus) -> Vec<Option<i64>> {
    let memory = status.memory.as_ref();
    let disk = status.disk.as_ref();
    let mut found = vec![
        status.cores.map(i64::from),
        status.memory_bandwidth_bytes_per_second,
        status.compact_bandwidth_bytes_per_second,
        status.matrix_operations_per_second,
        memory.map(|memory| memory.total_bytes),
        memory.map(|memory| memory.available_bytes),
        memory.and_then(|memory| memory.low_water_bytes),
        memory.and_then(|memory| memory.lime_bytes),
        disk.and_then(|disk| disk.read_bytes_per_second),
        disk.and_then(|disk| disk.free_bytes),
        disk.and_then(|disk| disk.total_bytes),
    ];
    for format in &status.formats {
        found.extend([format.memory_bandwidth_bytes_per_second, format.matrix_operations_per_second]);
    }
    for link in &status.links {
        found.extend([link.bandwidth_bits_per_second, link.round_trip_microseconds]);
    }
    found
}

/// What must be equal for figures to be compared: everything that is no figure.
fn shape(status: &LimeNodeProfileStatus) -> impl PartialEq {
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| (condition.type_.clone(), condition.status.clone(), condition.reason.clone()))
        .collect();
    // That a link was measured is news, whatever came of it: it may have been lost meanwhile.
    let peers: Vec<_> = status.links.iter().map(|link| (link.peer.clone(), link.measured_at.clone())).collect();
    let formats: Vec<_> = status.formats.iter().map(|format| format.format.clone()).collect();
    let fixed = (status.architecture.clone(), status.accelerator.clone(), status.link_endpoint.clone());
    (status.observed_generation, conditions, peers, formats, fixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lime_api::{FormatFigures, LinkStatus, MemoryStatus};
    use proptest::prelude::*;

    fn status(available: i64) -> LimeNodeProfileStatus {
        let memory = MemoryStatus { total_bytes: 1 << 34, available_bytes: available, ..MemoryStatus::default() };
        LimeNodeProfileStatus { memory: Some(memory), ..LimeNodeProfileStatus::default() }
    }

    #[test]
    fn what_moved_by_a_tenth_is_written() {
        let cases = [
            (1000, 1000, 0, None),
            (1000, 905, 0, None),
            (1000, 1099, 599, None),
            (1000, 1000, 600, Some(Reason::Refresh)),
            (1000, 890, 0, Some(Reason::Moved)),
            (1000, 1120, 0, Some(Reason::Moved)),
            (0, 1, 0, Some(Reason::Moved)),
            (0, 0, 0, None),
        ];
        for (before, after, age, expected) in cases {
            let reason = worth_writing(Some(&status(before)), &status(after), age);
            assert_eq!(reason, expected, "{before} to {after} after {age} s");
        }
    }

    #[test]
    fn what_appears_or_goes_is_written() {
        assert_eq!(worth_writing(None, &status(1), 0), Some(Reason::First));
        let mut linked = status(1000);
        linked.links = vec![LinkStatus { peer: "b".into(), ..LinkStatus::default() }];
        assert_eq!(worth_writing(Some(&status(1000)), &linked, 0), Some(Reason::Changed));
        assert_eq!(worth_writing(Some(&linked), &status(1000), 0), Some(Reason::Changed));
        let mut again = linked.clone();
        again.links[0].measured_at =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(worth_writing(Some(&linked), &again, 0), Some(Reason::Changed));
        let with = |bandwidth| {
            let formats = vec![FormatFigures {
                format: "Q4_K".into(),
                memory_bandwidth_bytes_per_second: Some(bandwidth),
                matrix_operations_per_second: Some(1),
            }];
            LimeNodeProfileStatus { formats, ..status(1000) }
        };
        assert_eq!(worth_writing(Some(&status(1000)), &with(1000), 0), Some(Reason::Changed));
        assert_eq!(worth_writing(Some(&with(1000)), &with(1050), 0), None);
        assert_eq!(worth_writing(Some(&with(1000)), &with(1500), 0), Some(Reason::Moved));
        let mut measured = status(1000);
        measured.memory_bandwidth_bytes_per_second = Some(1);
        assert_eq!(worth_writing(Some(&status(1000)), &measured, 0), Some(Reason::Moved));
    }

    proptest! {
        #[test]
        fn jitter_is_never_written(value in 1_000_i64..1 << 40, percent in -9_i64..=9) {
            let after = value + value / 100 * percent;
            prop_assert_eq!(worth_writing(Some(&status(value)), &status(after), 0), None);
        }

        #[test]
        fn writing_settles(before in any::<i64>(), after in any::<i64>()) {
            // Once written, the same status is not written again.
            let _ = worth_writing(Some(&status(before)), &status(after), 0);
            prop_assert_eq!(worth_writing(Some(&status(after)), &status(after), 0), None);
        }
    }
}
