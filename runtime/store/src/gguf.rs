//! A GGUF file as a source, wherever it is: the folder that it stands for, with the small files that are made from its header.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use lime_model::{Gguf, gguf_parts};

use crate::{
    card,
    error::StoreError,
    offers::Listed,
    origin::{Origin, OriginFile, Sink},
};

/// Changes when the same header becomes other small files: what was made before is then made anew.
const MAKING: u32 = 1;

/// A GGUF file, or several that are one model.
pub(crate) struct GgufOrigin {
    /// The folder in which they lie.
    folder: Box<dyn Origin>,
    /// The model as people name it.
    model: String,
    parts: Vec<String>,
    /// Where the first of them lies in its repository, where that was found out.
    found: Option<String>,
    described: Mutex<BTreeMap<String, Option<OriginFile>>>,
    made: Mutex<Option<Arc<Made>>>,
}

/// What comes of the headers.
struct Made {
    headers: Vec<(OriginFile, Vec<u8>)>,
    /// By name.
    small: Vec<(&'static str, Vec<u8>)>,
}

impl Made {
    fn small(&self, name: &str) -> Option<&[u8]> {
        self.small.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.as_slice())
    }
}

impl GgufOrigin {
    /// The model of which the file `name` in `folder` is one part or all. Nothing is read yet.
    pub(crate) fn new(folder: Box<dyn Origin>, name: &str, model: String) -> Result<Self, StoreError> {
        let parts = gguf_parts(name).map_err(|reason| StoreError::Damaged { path: name.into(), reason })?;
        Ok(Self { folder, model, parts, found: None, described: Mutex::default(), made: Mutex::default() })
    }

    /// The same of a file that was looked for, and found at this path.
    pub(crate) fn found_at(self, path: String) -> Self {
        Self { found: Some(path), ..self }
    }

    fn part(&self, name: &str) -> Result<Option<OriginFile>, StoreError> {
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = described.get(name) {
            return Ok(known.clone());
        }
        let found = self.folder.describe(name)?;
        described.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// The description of a small file, of which only the size depends on what is in the header.
    fn small_etag(first: &OriginFile) -> String {
        format!("{}/{MAKING}", first.etag)
    }

    fn first(&self) -> Result<OriginFile, StoreError> {
        let first = self.parts.first().map_or("", String::as_str);
        self.part(first)?.ok_or_else(|| self.missing(first))
    }

    fn missing(&self, part: &str) -> StoreError {
        let hint = match self.parts.len() {
            1 => card::instead(&*self.folder, &self.model),
            count => format!("the model is in {count} files, and all of them must lie beside each other"),
        };
        StoreError::NotThere { file: part.to_owned(), model: self.model.clone(), hint }
    }

    /// Reads the headers of all parts, the first time.
    fn made(&self) -> Result<Arc<Made>, StoreError> {
        let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*kept {
            return Ok(made.clone());
        }
        let mut headers = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let file = self.part(part)?.ok_or_else(|| self.missing(part))?;
            let header = card::gguf_header(&*self.folder, &file)?;
            headers.push((file, header));
        }
        let gguf = Gguf::of_headers(headers.iter().map(|(file, header)| (PathBuf::from(&file.name), &header[..])))?;
        let factors = match gguf.rope_factors()? {
            Some((path, range)) => {
                let of = headers.iter().map(|(file, _)| file).find(|file| Path::new(&file.name) == path);
                let bytes = |file: &OriginFile| card::bytes(&*self.folder, file, range.start, range.end - range.start);
                of.map(bytes).transpose()?
            }
            None => None,
        };
        let small = gguf.small_files(factors.as_deref())?;
        Ok(kept.insert(Arc::new(Made { headers, small })).clone())
    }
}

impl Origin for GgufOrigin {
    fn revision(&self) -> Result<String, StoreError> {
        self.folder.revision()
    }

    fn describe(&self, name: &str) -> Result<Option<OriginFile>, StoreError> {
        if self.parts.iter().any(|part| part == name) {
            return self.part(name);
        }
        let (first, made) = (self.first()?, self.made()?);
        let small = |bytes: &[u8]| {
            let etag = Self::small_etag(&first);
            OriginFile { name: name.to_owned(), bytes: bytes.len() as u64, etag }
        };
        Ok(made.small(name).map(small))
    }

    /// A file whose header became small files already becomes the same ones again: it need not be read to say so.
    fn describe_knowing(&self, name: &str, known: &[OriginFile]) -> Result<Option<OriginFile>, StoreError> {
        let first = self.first()?;
        let etag = Self::small_etag(&first);
        if known.contains(&first) && known.iter().any(|file| file.etag == etag) {
            return Ok(known.iter().find(|file| file.name == name && file.etag == etag).cloned());
        }
        self.describe(name)
    }

    fn weights(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.parts.clone())
    }

    fn listed(&self) -> Result<Vec<Listed>, StoreError> {
        self.folder.listed()
    }

    fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    fn read(&self, file: &OriginFile, from: u64, bytes: u64, sink: Sink<'_>) -> Result<(), StoreError> {
        let end = from.saturating_add(bytes);
        if self.parts.contains(&file.name) {
            // A header that was read already is not asked for again.
            let kept = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let header = kept.iter().flat_map(|made| &made.headers).find(|(known, _)| known == file);
            let known = header.and_then(|(_, header)| header.get(from as usize..end as usize));
            return match known {
                Some(known) => sink(known),
                None => self.folder.read(file, from, bytes, sink),
            };
        }
        let made = self.made()?;
        let changed = || StoreError::Changed { file: file.name.clone(), reason: "it is shorter than it was".into() };
        sink(made.small(&file.name).and_then(|all| all.get(from as usize..end as usize)).ok_or_else(changed)?)
    }
}
