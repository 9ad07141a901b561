//! Figures that were measured before, kept in a file of the user's cache folder: short-lived, and only for this machine.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{compute::Compute, disk::Disk, identity::machine_identity, link::LinkSpeed};

/// How long figures are believed.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Figures of this machine; a map's key says under which conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cached {
    machine: String,
    at: u64,
    /// By threads and stored type, such as `2 x bf16`.
    pub compute: BTreeMap<String, Compute>,
    /// By file system.
    pub disk: BTreeMap<String, Disk>,
    /// Between two processes of this machine.
    pub loopback: Option<LinkSpeed>,
}

/// The file. Measuring happens under its lock, so that two programs started at once agree on what they found.
#[derive(Debug)]
pub struct Cache {
    path: Option<PathBuf>,
    lock: Option<File>,
    found: Cached,
    changed: bool,
}

impl Cache {
    /// Opens the cache of this user and waits for whoever is measuring. A cache that cannot be used is an empty one:
    /// everything is then measured anew.
    pub fn open() -> Self {
        Self::open_in(folder())
    }

    /// The same in a folder of choice; `None` keeps nothing.
    pub fn open_in(folder: Option<PathBuf>) -> Self {
        let folder = folder.filter(|folder| fs::create_dir_all(folder).is_ok());
        let lock = folder.as_ref().and_then(|folder| File::create(folder.join("profile.lock")).ok());
        let lock = lock.filter(|lock| lock.lock().is_ok());
        let path = folder.map(|folder| folder.join("profile.json"));
        let read = path.as_ref().and_then(|path| fs::read(path).ok());
        let found: Option<Cached> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (machine, at) = (machine_identity(), now());
        let fresh = |found: &Cached| found.machine == machine && found.at <= at && at - found.at < FRESH.as_secs();
        let found = found.filter(fresh).unwrap_or_else(|| Cached { machine: machine.clone(), at, ..Cached::default() });
        Self { path, lock, found, changed: false }
    }

    /// What is known.
    pub const fn get(&self) -> &Cached {
        &self.found
    }

    /// Notes what was measured; [`Self::close`] keeps it.
    pub fn note(&mut self, change: impl FnOnce(&mut Cached)) {
        change(&mut self.found);
        self.changed = true;
    }

    /// Forgets everything: what follows is measured anew.
    pub fn forget(&mut self) {
        self.found = Cached { machine: machine_identity(), at: now(), ..Cached::default() };
        self.changed = true;
    }

    /// Keeps what was noted and lets others measure. A cache that cannot be written costs a second next time, nothing more.
    pub fn close(self) {
        if let (true, Some(path)) = (self.changed, &self.path) {
            let temporary = path.with_extension("tmp");
            let written = serde_json::to_vec_pretty(&self.found).map_err(std::io::Error::from);
            let kept =
                written.and_then(|bytes| fs::write(&temporary, bytes)).and_then(|()| fs::rename(&temporary, path));
            if let Err(error) = kept {
                tracing::debug!(path = %path.display(), %error, "measured figures could not be kept");
            }
        }
        drop(self.lock);
    }
}

/// `$XDG_CACHE_HOME/lime`, or `~/.cache/lime`.
fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("lime"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: LinkSpeed = LinkSpeed { bandwidth_bits: 7, latency_nanos: 8 };

    #[test]
    fn what_was_noted_is_found_again_until_it_is_stale_or_foreign() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || Cache::open_in(Some(folder.path().join("deep/er")));
        let mut cache = open();
        assert_eq!(cache.get().loopback, None);
        cache.note(|found| found.loopback = Some(LINK));
        cache.close();
        let cache = open();
        assert_eq!(cache.get().loopback, Some(LINK));
        cache.close();
        let path = folder.path().join("deep/er/profile.json");
        let text = fs::read_to_string(&path).expect("it was kept");
        let read: Cached = serde_json::from_str(&text).expect("it is JSON");
        let changes: [fn(&mut Cached); 3] = [
            |found| found.machine = "another".into(),
            |found| found.at -= 2 * FRESH.as_secs(),
            |found| found.at += 3600,
        ];
        for change in changes {
            let mut changed = read.clone();
            change(&mut changed);
            fs::write(&path, serde_json::to_vec(&changed).expect("plain data")).expect("it can be written");
            let cache = open();
            assert_eq!(cache.get().loopback, None);
            cache.close();
        }
        for damaged in ["", "{", "[]", "{\"at\":-1}"] {
            fs::write(&path, damaged).expect("it can be written");
            assert_eq!(open().get().loopback, None);
        }
    }

    #[test]
    fn without_a_folder_nothing_is_kept_and_nothing_fails() {
        let mut cache = Cache::open_in(None);
        cache.note(|found| found.loopback = Some(LINK));
        cache.close();
        assert_eq!(Cache::open_in(None).get().loopback, None);
    }
}
