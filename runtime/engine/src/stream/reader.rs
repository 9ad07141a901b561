//! Reads of block files past the page cache.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use lime_backoff::Backoff;
use lime_model::BlockFile;

/// How often a read is tried.
const TRIES: usize = 4;
const PAUSES: Backoff = Backoff::growing(Duration::from_millis(5), 4, Duration::from_millis(100));

/// Reads parts of block files. Tests put one with faults here.
pub trait BlockReader: Send + Sync {
    /// Reads bytes from `offset` of the block on; gives how many. Offset, length and address are multiples of
    /// [`lime_model::BLOCK_ALIGNMENT`].
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, file: &BlockFile, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Whether reads go past the page cache (`O_DIRECT`).
    fn is_direct(&self) -> bool;

    /// The file turned out to be damaged, or cannot be read: one of the same name may take its place.
    fn forget(&self, file: &BlockFile) {
        let _ = file;
    }
}

/// Reads by `O_DIRECT`. Where the file system has none: through the page cache, which is told to forget at once.
#[derive(Debug, Default)]
pub struct DirectReader {
    files: Mutex<BTreeMap<PathBuf, Arc<Opened>>>,
    buffered: AtomicBool,
}

#[derive(Debug)]
struct Opened {
    file: File,
    direct: bool,
}

impl DirectReader {
    fn open(&self, path: &Path) -> io::Result<Arc<Opened>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = files.get(path) {
            return Ok(Arc::clone(opened));
        }
        let opened = match open_direct(path) {
            Ok(file) => Opened { file, direct: true },
            Err(fault) if fault.kind() == io::ErrorKind::InvalidInput => {
                self.falls_back(path);
                Opened { file: File::open(path)?, direct: false }
            }
            Err(fault) => return Err(fault),
        };
        let opened = Arc::new(opened);
        files.insert(path.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }

    fn falls_back(&self, path: &Path) {
        if !self.buffered.swap(true, Ordering::Relaxed) {
            let path = path.display();
            tracing::warn!(%path, "its file system has no direct reads: blocks go through the page cache, which is slower");
        }
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::InvalidInput.into())
}

impl BlockReader for DirectReader {
    fn read(&self, file: &BlockFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let opened = self.open(&file.path)?;
        let at = file.offset + offset;
        let count = opened.file.read_at(into, at)?;
        #[cfg(target_os = "linux")]
        if !opened.direct {
            // Advice: a cache that keeps the bytes costs memory and nothing else.
            let length = std::num::NonZeroU64::new(count as u64);
            let _ = rustix::fs::fadvise(&opened.file, at, length, rustix::fs::Advice::DontNeed);
        }
        Ok(count)
    }

    fn is_direct(&self) -> bool {
        !self.buffered.load(Ordering::Relaxed)
    }

    fn forget(&self, file: &BlockFile) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&file.path);
    }
}

/// Reads all of `into`. Failed and short reads are tried again a few times; `again` hears of each.
///
/// # Errors
/// What the last try said.
pub(super) fn read_all(
    reader: &dyn BlockReader,
    file: &BlockFile,
    offset: u64,
    into: &mut [u8],
    mut again: impl FnMut(&io::Error),
) -> io::Result<()> {
    for pause in PAUSES.pauses().take(TRIES - 1) {
        match read_once(reader, file, offset, into) {
            Ok(()) => return Ok(()),
            Err(fault) => again(&fault),
        }
        thread::sleep(pause);
    }
    read_once(reader, file, offset, into)
}

fn read_once(reader: &dyn BlockReader, file: &BlockFile, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match reader.read(file, offset, into) {
            Ok(0) => {
                let text = format!("the file ends at offset {} of the block, which has {} bytes", offset, file.bytes);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            // Direct reads go on at page boundaries only.
            Ok(count) if count < into.len() && !(count as u64).is_multiple_of(lime_model::BLOCK_ALIGNMENT) => {
                let text = format!("a read of {} bytes at offset {offset} of the block gave {count}", into.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Ok(count) => (into, offset) = (&mut into[count..], offset + count as u64),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Gives at most so many bytes a read, and fails every third one.
    struct Lame(Mutex<u32>);

    impl BlockReader for Lame {
        fn read(&self, _: &BlockFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
            let mut calls = self.0.lock().unwrap();
            *calls += 1;
            match *calls % 3 {
                0 => Err(io::Error::other("lame")),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => {
                    let count = into.len().min(4096);
                    into[..count].fill((offset / 4096) as u8);
                    Ok(count)
                }
            }
        }

        fn is_direct(&self) -> bool {
            true
        }
    }

    fn file(path: &Path, bytes: u64) -> BlockFile {
        BlockFile { path: path.to_owned(), offset: 4096, bytes }
    }

    #[test]
    fn faults_are_tried_again_a_few_times() {
        let mut into = vec![9; 8192];
        let mut faults = 0;
        // 1 interrupted, 2 reads, 3 fails, 4 interrupted, 5 reads, 6 fails, 7, 8, 9: the second page never comes.
        let lame = Lame(Mutex::default());
        let read = read_all(&lame, &file(Path::new("x"), 8192), 0, &mut into, |_| faults += 1);
        assert_eq!(read.unwrap_err().to_string(), "lame");
        assert_eq!(faults, 3);
        assert!(read_all(&lame, &file(Path::new("x"), 4096), 0, &mut into[..4096], |_| {}).is_ok());
    }

    #[test]
    fn real_files_are_read_and_their_end_is_told() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("block");
        let content: Vec<u8> = (0..5 * 4096).map(|index| (index / 4096 + index) as u8).collect();
        fs::write(&path, &content).unwrap();
        let reader = DirectReader::default();
        let mut into = lime_kernels::AlignedBuf::new(2 * 4096).unwrap();
        read_all(&reader, &file(&path, 4 * 4096), 4096, &mut into, |_| panic!("no fault")).unwrap();
        assert_eq!(into[..], content[2 * 4096..4 * 4096]);
        let fault = read_all(&reader, &file(&path, 8 * 4096), 3 * 4096, &mut into, |_| {}).unwrap_err();
        assert!(fault.to_string().contains("ends at offset 16384"), "{fault}");
        println!("direct reads here: {}", reader.is_direct());
    }
}
