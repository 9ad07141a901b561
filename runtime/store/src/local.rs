//! A folder on this machine as a source.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use lime_files::open_regular;

use crate::{
    disk,
    error::StoreError,
    offers::Listed,
    origin::{Origin, OriginFile, Sink},
};

const BUFFER: usize = 1 << 20;

/// A folder on this machine.
pub(crate) struct LocalFolder(pub(crate) PathBuf);

impl LocalFolder {
    fn open(&self, name: &str) -> Result<Option<(File, OriginFile)>, StoreError> {
        let path = self.0.join(name);
        let file = match open_regular(&path) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(StoreError::io("read", path)(fault)),
        };
        let data = file.metadata().map_err(StoreError::io("read", &path))?;
        let etag = format!("{:x}-{}.{:09}", data.len(), data.mtime(), data.mtime_nsec());
        let described = OriginFile { name: name.to_owned(), bytes: data.len(), etag };
        Ok(Some((file, described)))
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }
}

impl Origin for LocalFolder {
    fn revision(&self) -> Result<String, StoreError> {
        Ok(String::new())
    }

    fn describe(&self, name: &str) -> Result<Option<OriginFile>, StoreError> {
        Ok(self.open(name)?.map(|(_, described)| described))
    }

    fn listed(&self) -> Result<Vec<Listed>, StoreError> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let listed = |entry: std::fs::DirEntry| Listed {
            name: entry.file_name().to_string_lossy().into_owned(),
            bytes: entry.metadata().ok().map(|data| data.len()),
        };
        Ok(entries.map(listed).collect())
    }

    fn read(&self, file: &OriginFile, from: u64, bytes: u64, sink: Sink<'_>) -> Result<(), StoreError> {
        let path = self.path(&file.name);
        let changed = |reason: &str| StoreError::Changed { file: path.display().to_string(), reason: reason.into() };
        let (open, now) = self.open(&file.name)?.ok_or_else(|| changed("it is gone"))?;
        if now != *file {
            return Err(changed("its size or date differs"));
        }
        let mut buffer = vec![0; BUFFER.min(bytes as usize)];
        let (mut at, end) = (from, from + bytes);
        while at < end {
            let length = (end - at).min(BUFFER as u64) as usize;
            let part = &mut buffer[..length];
            open.read_exact_at(part, at).map_err(StoreError::io("read", &path))?;
            sink(part)?;
            at += length as u64;
        }
        disk::forget(&open, from, bytes);
        Ok(())
    }
}
