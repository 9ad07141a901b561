//! Sequential read bandwidth past the page cache: large direct reads by several threads, as the weight loader does them.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lime_kernels::AlignedBuf;
use serde::{Deserialize, Serialize};

use crate::error::ProfileError;
use crate::sample::middle;

/// Bytes of one read.
const READ: usize = 4 << 20;
/// Threads that read at once, for each device that the disk serves.
const THREADS: usize = 4;
/// Company of more is measured as this.
const MOST_DEVICES: usize = 8;
/// With less than this the figure would be of the drive's own cache.
const LEAST: u64 = 16 << 20;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct DiskEffort {
    /// Most bytes of the file that is read, and written where there is none.
    pub bytes: u64,
    /// Seconds of reading, and of writing, about.
    pub seconds: f64,
    /// Devices whose loaders will read from the disk at the same time: not every disk likes company.
    pub devices: usize,
}

impl DiskEffort {
    /// About a second of reading: for `lime up`. Long enough for a disk to come down from its first burst.
    pub const SHORT: Self = Self { bytes: 2 << 30, seconds: 1.2, devices: 1 };
    /// Where little may be written: for the agent.
    pub const SMALL: Self = Self { bytes: 256 << 20, seconds: 0.5, devices: 1 };
    /// For `lime profile`.
    pub const FULL: Self = Self { bytes: 1 << 30, seconds: 3.0, devices: 1 };
}

/// A disk's speed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Bytes per second.
    pub bandwidth: u64,
    /// Bytes of the file that was read.
    pub file_bytes: u64,
    /// Whether reads went past the page cache. Where they could not, the figure is the cache's.
    pub direct: bool,
}

/// Reads a file that is there; `None` where it is too short to tell anything.
///
/// # Errors
/// When it cannot be read.
pub fn disk_of_file(path: &Path, effort: DiskEffort) -> Result<Option<Disk>, ProfileError> {
    let fail = |doing| move |source| ProfileError::Disk { path: path.to_owned(), doing, source };
    let length = std::fs::metadata(path).map_err(fail("looking at the file"))?.len().min(effort.bytes);
    let length = length / READ as u64 * READ as u64;
    if length < LEAST {
        return Ok(None);
    }
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let (file, direct) = match direct {
        // Some file systems take the flag and refuse the reads.
        Ok(file) if read_at(&file, 0).is_ok() => (file, true),
        _ => (File::open(path).map_err(fail("opening the file"))?, false),
    };
    let bandwidth = read(&file, length, effort).map_err(fail("reading"))?;
    Ok(Some(Disk { bandwidth, file_bytes: length, direct }))
}

/// Sees whether [`disk_of_folder`] can measure there, in no time.
///
/// # Errors
/// When the folder is not there, or cannot be written to.
pub fn disk_can_be_measured(folder: &Path) -> Result<(), ProfileError> {
    let fail = |doing| move |source| ProfileError::Disk { path: folder.to_owned(), doing, source };
    let found = std::fs::metadata(folder).map_err(fail("looking at the folder"))?;
    if !found.is_dir() {
        return Err(fail("looking at the folder")(std::io::ErrorKind::NotADirectory.into()));
    }
    let file = TemporaryFile(folder.join(format!(".lime-profile-{}", std::process::id())));
    let made = OpenOptions::new().write(true).create_new(true).open(&file.0);
    made.map(drop).map_err(fail("making a file to measure with"))
}

/// Writes a file into `folder`, reads it, and removes it again.
///
/// # Errors
/// When the folder cannot be written to, or has too little room.
pub fn disk_of_folder(folder: &Path, effort: DiskEffort) -> Result<Disk, ProfileError> {
    let file = TemporaryFile(folder.join(format!(".lime-profile-{}", std::process::id())));
    let written = file.write(effort)?;
    let found = disk_of_file(&file.0, effort)?;
    found.ok_or_else(|| ProfileError::Full { path: folder.to_owned(), written })
}

/// A file that goes away with this value.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Fills the file as far as bytes, seconds and room allow, and sends all of it to the disk. Gives what was written.
    fn write(&self, effort: DiskEffort) -> Result<u64, ProfileError> {
        let fail = |doing| move |source| ProfileError::Disk { path: self.0.clone(), doing, source };
        let options = OpenOptions::new().write(true).create_new(true).open(&self.0);
        let mut file = options.map_err(fail("making a file to measure with"))?;
        let chunk = noise(READ);
        let (begin, mut written) = (Instant::now(), 0);
        while written < effort.bytes && (written < LEAST || begin.elapsed().as_secs_f64() < effort.seconds) {
            match file.write_all(&chunk) {
                Ok(()) => written += READ as u64,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => return Err(fail("writing")(error)),
            }
            // Here too: what is only in the page cache took no time to write.
            if written % (64 << 20) == 0 {
                file.sync_data().map_err(fail("writing"))?;
            }
        }
        file.sync_all().map_err(fail("writing"))?;
        Ok(written)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // Nothing can be done where it cannot be removed; a file that was never made is no fault.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Bytes that no file system compresses away.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// One aligned read.
fn read_at(file: &File, offset: u64) -> std::io::Result<()> {
    let mut buffer = AlignedBuf::new(READ).map_err(|error| error.source)?;
    file.read_exact_at(&mut buffer, offset)
}

/// Median bytes per second over passes through the file's first `length` bytes.
fn read(file: &File, length: u64, effort: DiskEffort) -> std::io::Result<u64> {
    let within = Duration::from_secs_f64(effort.seconds);
    let mut buffers = Vec::new();
    for _ in 0..THREADS * effort.devices.clamp(1, MOST_DEVICES) {
        buffers.push(AlignedBuf::new(READ).map_err(|error| error.source)?);
    }
    let begin = Instant::now();
    let mut found = Vec::new();
    while found.len() < 9 && (found.is_empty() || begin.elapsed() < within) {
        // A slow disk's first pass ends early: what was read by then is the measure.
        let left = within.max(Duration::from_millis(200));
        let (bytes, seconds) = pass(file, &mut buffers, length, left)?;
        found.push(bytes as f64 / seconds);
    }
    Ok(middle(&mut found) as u64)
}

/// One pass in order, each thread taking the next stretch; ends early after `within`.
fn pass(file: &File, buffers: &mut [AlignedBuf], length: u64, within: Duration) -> std::io::Result<(u64, f64)> {
    let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let begin = Instant::now();
    let worker = |buffer: &mut AlignedBuf| -> std::io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let offset = next.fetch_add(READ as u64, Ordering::Relaxed);
            if offset >= length {
                break;
            }
            file.read_exact_at(buffer, offset)?;
            done.fetch_add(READ as u64, Ordering::Relaxed);
            if begin.elapsed() > within {
                stop.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = buffers.iter_mut().map(|buffer| scope.spawn(|| worker(buffer))).collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().unwrap_or_else(|_| Err(std::io::Error::other("a reader panicked"))))
    })?;
    Ok((done.load(Ordering::Relaxed), begin.elapsed().as_secs_f64().max(1e-9)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: DiskEffort = DiskEffort { bytes: 32 << 20, seconds: 0.05, devices: 1 };

    #[test]
    fn a_folder_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let found = disk_of_folder(folder.path(), LITTLE).expect("a folder that can be written to");
        assert!(found.bandwidth > 0 && found.file_bytes >= LEAST, "{found:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn a_short_file_tells_nothing_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("short");
        std::fs::write(&path, vec![0; 1 << 20]).expect("room for it");
        assert!(disk_of_file(&path, LITTLE).expect("it can be read").is_none());
        let missing = disk_of_file(&folder.path().join("none"), LITTLE).expect_err("it is not there").to_string();
        assert!(missing.contains("none: looking at the file failed"), "{missing}");
        let early = disk_can_be_measured(&folder.path().join("none")).expect_err("it is not there").to_string();
        assert!(early.contains("none: looking at the folder failed"), "{early}");
        assert!(disk_can_be_measured(&path).is_err(), "a file is no folder");
        disk_can_be_measured(folder.path()).expect("a folder that can be written to");
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left behind");
        let nowhere = disk_of_folder(&folder.path().join("none"), LITTLE).expect_err("it is not there").to_string();
        assert!(nowhere.contains("making a file to measure with failed"), "{nowhere}");
    }
}
