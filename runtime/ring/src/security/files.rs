//! The three files of a member, read as one: a rotation in the middle of reading is not seen by halves.

use std::{
    fs::{File, Metadata},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::SecurityError;

/// Chains of a dozen certificates have a tenth of this.
pub(super) const LONGEST_FILE: u64 = 256 << 10;

/// Where the files are, as a mounted Secret has them.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Paths {
    pub(super) fn of(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self { authority: file("ca.crt"), certificate: file("tls.crt"), key: file("tls.key") }
    }
}

/// Which files there are: equal as long as none was written or replaced. Links are followed, so it sees the swap of one
/// by which the kubelet brings a Secret's new content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp([Option<[i64; 5]>; 3]);

impl Stamp {
    pub(super) fn of(paths: &Paths) -> Self {
        let one = |path: &Path| {
            let found = |m: Metadata| {
                [m.dev().cast_signed(), m.ino().cast_signed(), m.size().cast_signed(), m.ctime(), m.ctime_nsec()]
            };
            std::fs::metadata(path).ok().map(found)
        };
        Self([one(&paths.authority), one(&paths.certificate), one(&paths.key)])
    }
}

/// The bytes of the files.
pub(super) struct Contents {
    pub(super) authority: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Reads all three, again while they change meanwhile; after a few turns what was read last is given.
pub(super) fn read(paths: &Paths) -> (Stamp, Result<Contents, SecurityError>) {
    const TURNS: usize = 4;
    let mut before = Stamp::of(paths);
    for _ in 1..TURNS {
        let contents = read_once(paths);
        let after = Stamp::of(paths);
        if after == before {
            return (before, contents);
        }
        before = after;
    }
    (before, read_once(paths))
}

fn read_once(paths: &Paths) -> Result<Contents, SecurityError> {
    Ok(Contents {
        authority: read_file(&paths.authority)?,
        certificate: read_file(&paths.certificate)?,
        key: read_file(&paths.key)?,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, SecurityError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|source| SecurityError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(SecurityError::Long { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_every_file_and_with_a_swapped_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            std::fs::create_dir(at(version)).unwrap();
            for name in ["ca.crt", "tls.crt", "tls.key"] {
                std::fs::write(at(version).join(name), "same").unwrap();
            }
        }
        // As the kubelet does it: tls.crt -> ..data/tls.crt, ..data -> the newest version, swapped by a rename.
        std::os::unix::fs::symlink("one", at("..data")).unwrap();
        for name in ["ca.crt", "tls.crt", "tls.key"] {
            std::os::unix::fs::symlink(format!("..data/{name}"), at(name)).unwrap();
        }
        let paths = Paths::of(folder.path());
        let (first, contents) = read(&paths);
        assert_eq!(contents.unwrap().key, b"same");
        assert_eq!(Stamp::of(&paths), first);
        std::os::unix::fs::symlink("two", at("..new")).unwrap();
        std::fs::rename(at("..new"), at("..data")).unwrap();
        let second = Stamp::of(&paths);
        assert_ne!(second, first);
        std::fs::write(at("two/tls.key"), "longer").unwrap();
        assert_ne!(Stamp::of(&paths), second);
    }

    #[test]
    fn missing_and_endless_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::of(folder.path());
        let error = |paths: &Paths| read(paths).1.err().unwrap().to_string();
        assert!(error(&paths).contains("ca.crt"));
        std::fs::write(&paths.authority, "x").unwrap();
        std::os::unix::fs::symlink("/dev/zero", &paths.certificate).unwrap();
        let endless = error(&paths);
        assert!(endless.contains("tls.crt") && endless.contains("longer"), "{endless}");
    }
}
