//! The forms of /proc: which control groups are above a process, and what /proc/meminfo says.

use std::path::Path;

/// The folders of a line of /proc/self/cgroup that may limit memory, the process's own first. In a container the
/// path can be that of the host: what is not there limits nothing, and the root is the container's own.
pub fn limiting_folders(line: &str) -> Vec<String> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let root = match controllers {
        "" => "/sys/fs/cgroup",
        _ if controllers.split(',').any(|controller| controller == "memory") => "/sys/fs/cgroup/memory",
        _ => return Vec::new(),
    };
    // A path that leaves its root belongs to another namespace.
    let path = if path.contains("..") { "/" } else { path };
    let ancestors = Path::new(path).ancestors().map(|path| path.to_string_lossy().trim_end_matches('/').to_owned());
    ancestors.map(|path| format!("{root}{path}")).collect()
}

/// Bytes of the field `name` (such as `MemAvailable`) of /proc/meminfo; `None` where it is missing or is no number.
pub fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
