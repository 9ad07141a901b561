//! GGUF files: one file, or several, that hold a whole model. A file is taken apart into what the rest of the house reads: tensors
//! by their usual names, and the small files of the folder that it stands for ([`Gguf::small_files`]).

mod architectures;
mod config;
mod cursor;
mod files;
mod header;
mod metadata;
mod names;
mod tokenizer;
mod types;
mod value;

pub use files::{gguf_header_bytes, gguf_parts, is_gguf};

use std::{
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use lime_files::{FileError, open_regular};
use lime_plan::Format;

use crate::{
    error::ModelError,
    gguf::{header::Header, metadata::Metadata},
    safetensors::{StoredTensor, Tensors},
};

/// A model in GGUF files whose headers have been read and checked.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// In order; the first has the metadata.
    parts: Vec<(PathBuf, Header)>,
}

/// Bytes of the longest list of factors that is read.
const MOST_ROPE_FACTORS: u64 = 64 << 10;

/// Factors of the frequencies of rotary positions whose numbers must be known.
const NEEDED_FACTORS: [&str; 2] = [config::ROPE_FACTORS, config::SHORT_FACTORS];

fn is_factors(name: &str) -> bool {
    name == config::LONG_FACTORS || NEEDED_FACTORS.contains(&name)
}

impl Gguf {
    /// Reads the header of the file at `path`, and of the others that belong to it.
    ///
    /// # Errors
    /// A file that is missing, cut short, damaged, or of another kind.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::checked(files::parts_of(path)?.into_iter().map(files::read).collect::<Result<_, _>>()?)
    }

    /// The same of headers alone, as a weight store keeps them: the beginnings of files, by their paths, whose sizes are known to be
    /// right.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn of_headers<'a>(headers: impl IntoIterator<Item = (PathBuf, &'a [u8])>) -> Result<Self, ModelError> {
        Self::checked(headers.into_iter().map(|(path, bytes)| files::parse(path, bytes)).collect::<Result<_, _>>()?)
    }

    fn checked(parts: Vec<(PathBuf, Header)>) -> Result<Self, ModelError> {
        let count = parts.len() as u64;
        for (place, (path, header)) in parts.iter().enumerate() {
            let metadata = Metadata { path, values: &header.values };
            let said = (metadata.count("split.no")?.unwrap_or(0), metadata.count("split.count")?.unwrap_or(1).max(1));
            if said != (place as u64, count) {
                let (number, of) = said;
                let reason = format!(
                    "it says that it is part {} of {of}, its name and what lies beside it say part {} of {count}: all parts of one \
                     model must lie in one folder under their own names",
                    number + 1,
                    place + 1
                );
                return Err(ModelError::Weights { path: path.clone(), reason });
            }
        }
        let this = Self { parts };
        this.tensors()?;
        Ok(this)
    }

    /// The file, or the first of several.
    pub fn path(&self) -> &Path {
        &self.parts[0].0
    }

    /// The small files of the model's folder by name: config, tokenizer, what ends an answer, and the chat template. `factors` are the
    /// bytes at [`Gguf::rope_factors`], where there are such.
    ///
    /// # Errors
    /// An architecture, a tokenizer or values that this build does not run, by name.
    pub fn small_files(&self, factors: Option<&[u8]>) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
        let mut files = vec![("config.json", self.config_of(factors)?)];
        files.extend(tokenizer::small_files(&self.metadata())?);
        Ok(files)
    }

    /// `config.json` of a model whose files are on this machine.
    pub(crate) fn config_json(&self) -> Result<Vec<u8>, ModelError> {
        let Some((path, range)) = self.rope_factors()? else { return self.config_of(None) };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let read = open_regular(path).and_then(|file| file.read_exact_at(&mut bytes, range.start));
        read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        self.config_of(Some(&bytes))
    }

    fn config_of(&self, factors: Option<&[u8]>) -> Result<Vec<u8>, ModelError> {
        let has = |name: &str| self.parts.iter().any(|(_, part)| part.tensors.iter().any(|tensor| tensor.name == name));
        let factors: Option<Vec<f32>> = factors.map(|bytes| {
            let (numbers, _) = bytes.as_chunks();
            numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        });
        config::config_json(&self.metadata(), &has, factors.as_deref())
    }

    /// Where the factors of the frequencies of rotary positions lie, in which file and at which bytes of it, where there is a tensor of
    /// such. It is the one tensor whose numbers are needed to know what the model computes.
    ///
    /// # Errors
    /// When the tensor is none of that kind.
    pub fn rope_factors(&self) -> Result<Option<(&Path, Range<u64>)>, ModelError> {
        let mut all = self.parts.iter().flat_map(|(path, part)| part.tensors.iter().map(move |tensor| (path, tensor)));
        let Some((path, tensor)) = all.find(|(_, tensor)| NEEDED_FACTORS.contains(&tensor.name.as_str())) else {
            return Ok(None);
        };
        let wrong = |reason: &str| ModelError::Tensor {
            path: path.clone(),
            tensor: tensor.name.clone(),
            reason: reason.to_owned(),
        };
        if tensor.kind.format != Some(Format::F32) || tensor.bytes > MOST_ROPE_FACTORS {
            return Err(wrong("is no short list of f32 numbers"));
        }
        // Placed: the sum is no more than a file can have.
        Ok(Some((path, tensor.offset..tensor.offset + tensor.bytes)))
    }

    /// Every tensor under its usual name.
    pub(crate) fn tensors(&self) -> Result<Tensors, ModelError> {
        // What is run is seen when the config is read.
        let architecture = architectures::architecture(&self.metadata()).ok();
        let rotated = architecture.is_some_and(|it| it.rotated);
        let mut tensors = Tensors::new();
        for (path, header) in &self.parts {
            // Of the factors of rotary positions the config speaks.
            for tensor in header.tensors.iter().filter(|tensor| !is_factors(&tensor.name)) {
                let stored = StoredTensor {
                    format: tensor.kind.format.ok_or_else(|| tensor.kind.name.to_owned()),
                    shape: tensor.shape.clone(),
                    offset: tensor.offset,
                    bytes: tensor.bytes,
                    rotated: rotated && names::is_rotated(&tensor.name),
                };
                if tensors.insert(names::usual_name(&tensor.name, architecture), (path.clone(), stored)).is_some() {
                    let reason = "is in more than one part".to_owned();
                    return Err(ModelError::Tensor { path: path.clone(), tensor: tensor.name.clone(), reason });
                }
            }
        }
        Ok(tensors)
    }

    fn metadata(&self) -> Metadata<'_> {
        let (path, header) = &self.parts[0];
        Metadata { path, values: &header.values }
    }
}
