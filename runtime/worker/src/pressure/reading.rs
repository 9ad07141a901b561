//! What the system says of memory: files of /proc and of the control groups above this process, of either version.

use lime_plan::Bytes;
use lime_profiler::{limiting_folders, meminfo_bytes};

/// The system's word at one moment; what it does not say is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// The tightest hard limit of a control group (`memory.max`, `memory.limit_in_bytes`).
    pub(crate) limit: Option<Bytes>,
    /// The tightest limit above which a group is slowed down (`memory.high`, `memory.soft_limit_in_bytes`).
    pub(crate) soft_limit: Option<Bytes>,
    /// Memory that the machine can give without swapping.
    pub(crate) available: Option<Bytes>,
    /// Memory that it has.
    pub(crate) total: Option<Bytes>,
    /// Share of the last ten seconds, in per cent, in which a process of our group (of the machine, with groups of version 1)
    /// waited for memory.
    pub(crate) stalled: Option<f64>,
}

/// Reads, with `file` giving the content of a path.
pub(crate) fn read_by(file: impl Fn(&str) -> Option<String>) -> Reading {
    let meminfo = file("/proc/meminfo").unwrap_or_default();
    let mut reading = Reading {
        available: meminfo_bytes(&meminfo, "MemAvailable").map(Bytes),
        total: meminfo_bytes(&meminfo, "MemTotal").map(Bytes),
        ..Reading::default()
    };
    let number = |path: String| file(&path)?.trim().parse::<u64>().ok().map(Bytes);
    let least = |so_far: &mut Option<Bytes>, found: Option<Bytes>| {
        *so_far = [*so_far, found].into_iter().flatten().min();
    };
    for folder in file("/proc/self/cgroup").unwrap_or_default().lines().flat_map(limiting_folders) {
        for name in ["memory.max", "memory.limit_in_bytes"] {
            least(&mut reading.limit, number(format!("{folder}/{name}")));
        }
        for name in ["memory.high", "memory.soft_limit_in_bytes"] {
            least(&mut reading.soft_limit, number(format!("{folder}/{name}")));
        }
        reading.stalled = reading.stalled.or_else(|| some_avg10(&file(&format!("{folder}/memory.pressure"))?));
    }
    reading.stalled = reading.stalled.or_else(|| some_avg10(&file("/proc/pressure/memory")?));
    reading
}

fn some_avg10(pressure: &str) -> Option<f64> {
    let line = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("avg10=")).and_then(|share| share.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(files: &[(&str, &str)]) -> Reading {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        read_by(|path| files.get(path).map(|text| (*text).to_owned()))
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n");
    const STALLED: &str = "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=3.00 avg60=0 avg300=0 total=1\n";

    #[test]
    fn the_tightest_group_of_version_2_counts() {
        let reading = read(&[
            MEMINFO,
            ("/proc/self/cgroup", "0::/kube/pod\n"),
            ("/sys/fs/cgroup/kube/pod/memory.max", "max\n"),
            ("/sys/fs/cgroup/kube/pod/memory.high", "700\n"),
            ("/sys/fs/cgroup/kube/pod/memory.pressure", STALLED),
            ("/sys/fs/cgroup/kube/memory.max", "900\n"),
            ("/proc/pressure/memory", "some avg10=99.00 avg60=0 avg300=0 total=1"),
        ]);
        assert_eq!((reading.limit, reading.soft_limit), (Some(Bytes(900)), Some(Bytes(700))));
        assert_eq!((reading.available, reading.total), (Some(Bytes(400 << 10)), Some(Bytes(1000 << 10))));
        assert_eq!(reading.stalled, Some(12.5));
    }

    #[test]
    fn groups_of_version_1_and_machines_without_any() {
        let reading = read(&[
            ("/proc/self/cgroup", "8:pids:/a\n4:cpu,memory:/box\n0::/\n"),
            ("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "5000\n"),
            ("/sys/fs/cgroup/memory/memory.soft_limit_in_bytes", "9223372036854771712\n"),
            ("/proc/pressure/memory", STALLED),
        ]);
        assert_eq!((reading.limit, reading.soft_limit), (Some(Bytes(5000)), Some(Bytes(9_223_372_036_854_771_712))));
        assert_eq!((reading.available, reading.stalled), (None, Some(12.5)));
        assert_eq!(read(&[]), Reading::default());
        assert_eq!(read(&[("/proc/self/cgroup", "nonsense\n:::\n0::/../..")]), Reading::default());
    }
}
