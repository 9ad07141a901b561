//! Files that belong together, read as one: a rotation in the middle of reading is not seen by halves.

use std::{
    fs::{File, Metadata},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::error::{LONGEST_FILE, SecurityError};

/// Where `N` files are that belong together.
pub(super) type Paths<const N: usize> = [PathBuf; N];

/// The bytes of each.
pub(super) type Contents<const N: usize> = [Vec<u8>; N];

/// Which files there are: equal as long as none was written or replaced. Links are followed, so it sees the swap of one
/// by which the kubelet brings a Secret's new content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp<const N: usize>([Option<[i64; 5]>; N]);

impl<const N: usize> Stamp<N> {
    pub(super) fn of(paths: &Paths<N>) -> Self {
        let one = |path: &Path| {
            let found = |m: Metadata| {
                [m.dev().cast_signed(), m.ino().cast_signed(), m.size().cast_signed(), m.ctime(), m.ctime_nsec()]
            };
            std::fs::metadata(path).ok().map(found)
        };
        Self(std::array::from_fn(|index| one(&paths[index])))
    }
}

/// Reads all, again while they change meanwhile; after a few turns what was read last is given.
pub(super) fn read<const N: usize>(paths: &Paths<N>) -> (Stamp<N>, Result<Contents<N>, SecurityError>) {
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

fn read_once<const N: usize>(paths: &Paths<N>) -> Result<Contents<N>, SecurityError> {
    let mut contents = [const { Vec::new() }; N];
    for (path, bytes) in paths.iter().zip(&mut contents) {
        *bytes = read_file(path)?;
    }
    Ok(contents)
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
        let paths = ["ca.crt", "tls.crt", "tls.key"].map(at);
        let (first, contents) = read(&paths);
        assert_eq!(contents.unwrap()[2], b"same");
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
        let paths = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.path().join(name));
        let error = |paths: &Paths<3>| read(paths).1.err().unwrap().to_string();
        assert!(error(&paths).contains("ca.crt"));
        std::fs::write(&paths[0], "x").unwrap();
        std::os::unix::fs::symlink("/dev/zero", &paths[1]).unwrap();
        let endless = error(&paths);
        assert!(endless.contains("tls.crt") && endless.contains("longer"), "{endless}");
    }
}
