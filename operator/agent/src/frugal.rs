//! Memory that was used for a moment goes back to the system at once.
//!
//! glibc keeps freed buffers, and the larger those it has seen, the more: after one measurement of a link an agent would
//! hold 60 MiB for ever. Its settings against that are read from the environment when a process starts, so the agent
//! starts itself once more with them.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Buffers above 128 KiB are mapped one by one; what is free at the end of the heap is given back; one heap for all threads.
const SETTINGS: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "1")];

/// Starts this program anew with the settings, unless they are there. Returns where that is so, or cannot be done: the
/// agent then merely holds more memory.
pub fn restart() {
    if SETTINGS.iter().all(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let missing = SETTINGS.iter().filter(|(name, _)| std::env::var_os(name).is_none());
    // The name stays: it is what lists of processes show.
    let failed =
        Command::new(program).arg0("lime-agent").args(std::env::args_os().skip(1)).envs(missing.copied()).exec();
    eprintln!("lime-agent goes on without settings that save memory: {failed}");
}
