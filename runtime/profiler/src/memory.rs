//! Memory that a process here may use: what the machine has free, and what every cgroup above it still allows.

use serde::{Deserialize, Serialize};

use crate::error::ProfileError;
use crate::proc::{limiting_folders, meminfo_bytes};

/// What limits the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// What the machine has free.
    Machine,
    /// The cgroup whose files are in this folder.
    Cgroup(String),
}

/// Memory that may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Bytes that may be used now without pushing anything out.
    pub usable: u64,
    /// Bytes that the machine has.
    pub total: u64,
    /// What limits it.
    pub bound: Bound,
}

/// Memory that this process may use.
///
/// # Errors
/// When the machine does not say.
pub fn memory() -> Result<Memory, ProfileError> {
    memory_by(|path| std::fs::read_to_string(path).ok())
}

/// The same on a machine whose files `read` gives by path.
///
/// # Errors
/// When /proc/meminfo is missing or says nothing.
pub fn memory_by(read: impl Fn(&str) -> Option<String>) -> Result<Memory, ProfileError> {
    let meminfo = read("/proc/meminfo").ok_or(ProfileError::Memory)?;
    let total = meminfo_bytes(&meminfo, "MemTotal").ok_or(ProfileError::Memory)?;
    // Kernels before 3.14 do not estimate it.
    let free = meminfo_bytes(&meminfo, "MemAvailable").or_else(|| meminfo_bytes(&meminfo, "MemFree"));
    let mut found = Memory { usable: free.ok_or(ProfileError::Memory)?, total, bound: Bound::Machine };
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    for folder in groups.lines().flat_map(limiting_folders) {
        if let Some(room) = room(&folder, &read).filter(|room| *room < found.usable) {
            found.usable = room;
            found.bound = Bound::Cgroup(folder);
        }
    }
    Ok(found)
}

/// What a cgroup still allows: its limit less what it uses, page cache that nobody needs not counted.
fn room(folder: &str, read: &impl Fn(&str) -> Option<String>) -> Option<u64> {
    let number = |name: &str| read(&format!("{folder}/{name}"))?.trim().parse::<u64>().ok();
    let stat = read(&format!("{folder}/memory.stat")).unwrap_or_default();
    let stat = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let (limit, used, cache) = match number("memory.max") {
        // Version 2; "max" is no number and no limit.
        Some(limit) => (limit, number("memory.current")?, stat("inactive_file")),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?, stat("total_inactive_file")),
    };
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MEMINFO: &str = "MemTotal:       16000000 kB\nMemFree:  1000000 kB\nMemAvailable:    8000000 kB\n";

    fn measure(files: &[(&str, &str)]) -> Result<Memory, ProfileError> {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        memory_by(|path| files.get(path).map(|text| (*text).to_owned()))
    }

    fn machine_and(files: &[(&str, &str)]) -> Memory {
        measure(&[&[("/proc/meminfo", MEMINFO)], files].concat()).expect("meminfo is there")
    }

    #[test]
    fn without_cgroups_the_machine_decides() {
        let found = machine_and(&[]);
        assert_eq!((found.usable, found.total, found.bound), (8_000_000 << 10, 16_000_000 << 10, Bound::Machine));
        assert!(matches!(measure(&[]), Err(ProfileError::Memory)));
        assert!(matches!(measure(&[("/proc/meminfo", "MemTotal: 1 kB\n")]), Err(ProfileError::Memory)));
    }

    #[test]
    fn version_two_limits_at_any_level() {
        let found = machine_and(&[
            ("/proc/self/cgroup", "0::/kube/pod/box\n"),
            ("/sys/fs/cgroup/kube/pod/box/memory.max", "max\n"),
            ("/sys/fs/cgroup/kube/pod/box/memory.current", "100\n"),
            ("/sys/fs/cgroup/kube/pod/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/kube/pod/memory.current", "500000000\n"),
            ("/sys/fs/cgroup/kube/pod/memory.stat", "anon 1\ninactive_file 300000000\nactive_file 5\n"),
        ]);
        assert_eq!(found.usable, 1_073_741_824 - 200_000_000);
        assert_eq!(found.bound, Bound::Cgroup("/sys/fs/cgroup/kube/pod".into()));
    }

    #[test]
    fn version_one_is_read_beside_other_controllers() {
        let found = machine_and(&[
            ("/proc/self/cgroup", "11:cpu,cpuacct:/x\n5:memory:/docker/abc\n0::/\n"),
            ("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "2000000000"),
            ("/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1500000000"),
            ("/sys/fs/cgroup/memory/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 1000000000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1500000000"),
        ]);
        assert_eq!(found.usable, 1_500_000_000);
    }

    #[test]
    fn in_a_container_the_root_counts() {
        let found = machine_and(&[
            ("/proc/self/cgroup", "5:memory:/kubepods/burstable/pod1/abc\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "4000"),
        ]);
        assert_eq!(found.usable, 0, "over its limit already");
        let foreign = machine_and(&[
            ("/proc/self/cgroup", "0::/../../other\n"),
            ("/sys/fs/cgroup/memory.max", "7000"),
            ("/sys/fs/cgroup/memory.current", "0"),
        ]);
        assert_eq!(foreign.usable, 7000);
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(meminfo in "(MemTotal|MemAvailable|x)?:? ?[0-9k B\n]{0,40}", group in "[0-9:/a-z.,\n]{0,40}", limit in "[0-9a-z\n ]{0,24}") {
            let _ = memory_by(|path| Some(match path {
                "/proc/meminfo" => format!("{MEMINFO}{meminfo}"),
                "/proc/self/cgroup" => group.clone(),
                _ => limit.clone(),
            }));
        }
    }
}
