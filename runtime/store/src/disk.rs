//! The few things that the store asks of a file system, none of which fills the page cache.

use std::{
    fs::{self, File, OpenOptions},
    io,
    num::NonZeroU64,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    thread,
    time::Duration,
};

use lime_plan::Bytes;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, statvfs};

use crate::{digest::CHUNK_BYTES, error::StoreError};

/// Written bytes go to the disk, and out of the page cache, whenever this many have gathered.
const WINDOW: u64 = 16 << 20;
const PAGE: usize = 4096;
/// Pauses between the tries of a read.
const PAUSES: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(80)];

/// Does `read`, and tries a few times more before it believes that it cannot be done.
pub(crate) fn patiently<T, E>(mut read: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for pause in PAUSES {
        match read() {
            Err(_) => thread::sleep(pause),
            done => return done,
        }
    }
    read()
}

/// Bytes free for this process on the disk of `path`.
pub(crate) fn free_bytes(path: &Path) -> Result<Bytes, StoreError> {
    let stat = statvfs(path).map_err(|fault| StoreError::io("ask for free space on", path)(fault.into()))?;
    Ok(Bytes(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Bytes that the file at `path` takes on its disk; none where it is not there.
pub(crate) fn allocated(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.blocks() * 512)
}

/// Makes a rename or a new name in `folder` last.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(StoreError::io("flush", folder))
}

/// Writes a small file that is either there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fault = || StoreError::writing("write", path);
    let mut file = File::create(path).map_err(fault())?;
    io::Write::write_all(&mut file, bytes).map_err(|source| no_space(path, bytes.len() as u64, source))?;
    file.sync_all().map_err(fault())
}

/// Drops what the page cache holds of a range of `file`; advice only.
pub(crate) fn forget(file: &File, from: u64, bytes: u64) {
    let _ = fadvise(file, from, NonZeroU64::new(bytes), Advice::DontNeed);
}

/// A write's fault, told apart where the disk is full.
fn no_space(path: &Path, wanted: u64, source: io::Error) -> StoreError {
    if !matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return StoreError::writing("write", path)(source);
    }
    let folder = path.parent().unwrap_or(path);
    let (wanted, free) = (Bytes(wanted), free_bytes(folder).unwrap_or_default());
    StoreError::NoSpace { path: folder.to_owned(), wanted, free, short: wanted.saturating_sub(free) }
}

/// A file that is being filled, in any order, with room for all of it taken beforehand.
pub(crate) struct Filling<'a> {
    path: &'a Path,
    file: File,
    unflushed: u64,
}

impl<'a> Filling<'a> {
    /// Opens or creates the file and takes room for `bytes` of it.
    pub(crate) fn open(path: &'a Path, bytes: u64) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(StoreError::writing("create", path))?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from) {
            Ok(()) => {}
            // Not every file system can; a full disk is then met by a write.
            Err(fault) if fault.kind() == io::ErrorKind::Unsupported => {}
            Err(fault) => {
                let missing = bytes.saturating_sub(allocated(path));
                return Err(no_space(path, missing, fault));
            }
        }
        file.set_len(bytes).map_err(StoreError::io("size", path))?;
        Ok(Self { path, file, unflushed: 0 })
    }

    pub(crate) fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, at).map_err(|source| no_space(self.path, bytes.len() as u64, source))?;
        self.unflushed += bytes.len() as u64;
        if self.unflushed >= WINDOW { self.flush() } else { Ok(()) }
    }

    /// Brings everything written to the disk and out of the page cache.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|source| no_space(self.path, self.unflushed, source))?;
        forget(&self.file, 0, 0);
        self.unflushed = 0;
        Ok(())
    }

    /// As [`Filling::flush`], the file's size and dates too.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.file.sync_all().map_err(StoreError::io("flush", self.path))
    }
}

/// Reads a file's range from the disk itself, [`CHUNK_BYTES`] at a time, into memory of its own.
pub(crate) struct DiskReader {
    memory: Vec<u8>,
}

impl DiskReader {
    pub(crate) fn new() -> Self {
        Self { memory: vec![0; CHUNK_BYTES + PAGE] }
    }

    /// Hands every chunk of `bytes` bytes from `offset` on to `sink`, in order. Offset and size are multiples of a page.
    pub(crate) fn read(
        &mut self,
        path: &Path,
        offset: u64,
        bytes: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StoreError> {
        let fault = || StoreError::io("read", path);
        let direct = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path);
        let (file, direct) = match direct {
            Ok(file) => (file, true),
            Err(_) => (File::open(path).map_err(fault())?, false),
        };
        // Direct reads want memory that begins on a page.
        let start = self.memory.as_ptr().align_offset(PAGE);
        let (mut at, end) = (offset, offset + bytes);
        while at < end {
            let length = (end - at).min(CHUNK_BYTES as u64) as usize;
            let chunk =
                self.memory.get_mut(start..start + length).ok_or_else(|| fault()(io::ErrorKind::OutOfMemory.into()))?;
            file.read_exact_at(chunk, at).map_err(fault())?;
            if !direct {
                forget(&file, at, length as u64);
            }
            sink(chunk);
            at += length as u64;
        }
        Ok(())
    }
}
