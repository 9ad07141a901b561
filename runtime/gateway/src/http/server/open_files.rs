//! How many files this process may have open, and how many of them may be connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections where the system allows any number: each may hold some 128 KiB of buffers.
const MOST: u64 = 1024;
/// Fewest, however few files there may be.
const FEWEST: u64 = 8;
/// Files that are no client's: the ring, model, plan, certificates, the log, those of the runtime.
const OTHERS: u64 = 64;

/// Raises the number of open files that the system tolerates to what it would allow.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Most connections at once, as this process's limit of open files has room for them.
pub(super) fn connections() -> usize {
    of_files(getrlimit(Resource::Nofile).current) as usize
}

/// `files`: none where there is no limit.
fn of_files(files: Option<u64>) -> u64 {
    let Some(files) = files else { return MOST };
    // Small limits leave a part, large ones the same as any.
    files.saturating_sub(OTHERS + files / 8).clamp(FEWEST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_and_the_model_keep_their_files() {
        for (files, connections) in
            [(Some(16), 8), (Some(128), 48), (Some(256), 160), (Some(1024), 832), (Some(1 << 20), 1024), (None, 1024)]
        {
            assert_eq!(of_files(files), connections, "{files:?}");
        }
    }
}
