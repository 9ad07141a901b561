//! A GGUF file on this machine as a source: the folder that it stands for, with the small files that are made from its header.

use std::path::Path;

use lime_model::{Gguf, gguf_parts};

use crate::{
    StoreError,
    local::LocalFolder,
    origin::{Origin, OriginFile, Sink},
};

/// Changes when the same header becomes other small files: what was made before is then made anew.
const MAKING: u32 = 1;

/// A GGUF file, or several that are one model.
pub(crate) struct GgufFile {
    folder: LocalFolder,
    parts: Vec<String>,
    /// Made from the header, by name.
    small: Vec<(&'static str, Vec<u8>)>,
}

impl GgufFile {
    /// Reads the headers of the file at `path` and of those that belong to it.
    pub(crate) fn new(path: &Path) -> Result<Self, StoreError> {
        let gguf = Gguf::open(path)?;
        let name = gguf.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let parts = gguf_parts(&name).map_err(|reason| StoreError::Damaged { path: path.to_owned(), reason })?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { folder: LocalFolder(folder.to_owned()), parts, small: gguf.small_files()? })
    }

    fn small(&self, name: &str) -> Option<&[u8]> {
        self.small.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.as_slice())
    }
}

impl Origin for GgufFile {
    fn revision(&self) -> Result<String, StoreError> {
        self.folder.revision()
    }

    fn describe(&self, name: &str) -> Result<Option<OriginFile>, StoreError> {
        if self.parts.iter().any(|part| part == name) {
            return self.folder.describe(name);
        }
        let (Some(bytes), Some(first)) = (self.small(name), self.parts.first()) else { return Ok(None) };
        let Some(whole) = self.folder.describe(first)? else { return Ok(None) };
        let etag = format!("{}/{MAKING}", whole.etag);
        Ok(Some(OriginFile { name: name.to_owned(), bytes: bytes.len() as u64, etag }))
    }

    fn weights(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.parts.clone())
    }

    fn read(&self, file: &OriginFile, from: u64, bytes: u64, sink: Sink<'_>) -> Result<(), StoreError> {
        let Some(made) = self.small(&file.name) else { return self.folder.read(file, from, bytes, sink) };
        let end = from.saturating_add(bytes);
        let changed = || StoreError::Changed { file: file.name.clone(), reason: "it is shorter than it was".into() };
        sink(made.get(from as usize..end as usize).ok_or_else(changed)?)
    }
}
