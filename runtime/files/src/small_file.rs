//! Reading files that come with a model, or that a person names, whole: never more than a limit, and never a file that
//! is none.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

/// Opens a regular file. A pipe without a writer would be waited for, a device such as /dev/zero has no end.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Without it, the opening itself waits for a pipe's other end.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let kind = file.metadata()?.file_type();
    let found = match kind {
        _ if kind.is_file() => return Ok(file),
        _ if kind.is_dir() => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}, not a regular file")))
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// What the system says, that it is no regular file ([`io::ErrorKind::InvalidInput`]), or that it is larger
/// ([`io::ErrorKind::FileTooLarge`]).
pub fn read_small(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_limited(open_regular(path)?, limit)
}

/// As [`read_small`] for a file that a person names, which may be a pipe that is written to, such as `/dev/stdin` or a
/// shell's `<(command)`.
///
/// # Errors
/// As [`read_small`]; a device is refused.
pub fn read_small_or_pipe(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    match std::fs::metadata(path)?.file_type() {
        kind if kind.is_fifo() => read_limited(File::open(path)?, limit),
        _ => read_small(path, limit),
    }
}

fn read_limited(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let too_large = || {
        let reason = format!("it is larger than {limit} bytes, which no such file is");
        io::Error::new(io::ErrorKind::FileTooLarge, reason)
    };
    if file.metadata()?.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_small(&file, 5).unwrap(), b"12345");
        assert_eq!(read_small(&file, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_small(folder.path(), 5).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(read_small(&folder.path().join("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let fault = read_small(path, 5).unwrap_err();
            assert_eq!(fault.kind(), io::ErrorKind::InvalidInput, "{fault}");
        }
        assert_eq!(read_small_or_pipe(Path::new("/dev/zero"), 5).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let writing = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "123")
        });
        assert_eq!(read_small_or_pipe(&pipe, 5).unwrap(), b"123");
        writing.join().unwrap().unwrap();
    }
}
