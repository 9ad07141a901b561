//! A model's folder: config and headers read and checked, weights left where they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use lime_planner::{Block, Dtype, ModelCard};
use safetensors::tensor::Dtype as StoredDtype;
use serde_json::Value;

use crate::{
    BlockLayout, ModelConfig, ModelError, TensorRole,
    json::{Fields, read_bounded},
    layout::{EMBEDDING_NAME, LayoutEntry, OUTPUT_NAME},
    safetensors::{StoredTensor, header_file, read_header},
};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
const INDEX_LIMIT: u64 = 64 << 20;
const MISSING_WEIGHTS: &str =
    "the folder must hold model.safetensors, or model.safetensors.index.json and the files that it names";
const MISSING_SHARD: &str = "model.safetensors.index.json names it; copy or download the whole model again";

/// Where a tensor of the model is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// What it is for.
    pub role: TensorRole,
    /// Its name in the file.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
    /// Element type.
    pub dtype: Dtype,
    /// `[rows, columns]` of a matrix, `[length]` of a vector.
    pub shape: Vec<usize>,
}

/// A Hugging Face model folder whose config and headers have been checked against each other.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    tensors: BTreeMap<String, (PathBuf, StoredTensor)>,
}

impl ModelFolder {
    /// Opens a folder: reads `config.json` and the header of every safetensors file, and checks that every tensor of
    /// the model is there with the right dtype and shape. Reads no weights; tensors that the model does not use are ignored.
    /// In the place of a weights file its [`header_file`] will do, as in the weight store's folders of models.
    ///
    /// # Errors
    /// The first fault, with the file and the tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref().to_owned();
        let config = ModelConfig::load(&path)?;
        let (single, index) = (path.join(SINGLE_FILE), path.join(INDEX_FILE));
        // As transformers does: one file goes before an index.
        let tensors = if single.exists() || header_file(&single).exists() || !index.exists() {
            in_file(&single, MISSING_WEIGHTS)?.collect()
        } else {
            in_shards(&path, &index)?
        };
        let folder = Self { path, config, tensors };
        for block in folder.config.card("").all_blocks() {
            folder.tensors(block)?;
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the weights files themselves are in the folder, not their headers alone.
    pub fn has_weights(&self) -> bool {
        self.weight_files().iter().all(|file| file.is_file())
    }

    /// The files that hold the model's tensors.
    pub fn weight_files(&self) -> BTreeSet<&Path> {
        self.tensors.values().map(|(file, _)| file.as_path()).collect()
    }

    /// The model's shape.
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the planner needs to know, under `name`.
    pub fn card(&self, name: &str) -> ModelCard {
        self.config.card(name)
    }

    /// The tensors of `block` in the order of its [`BlockLayout`]. A tied head's matrix is the embedding's, under
    /// whichever name it is stored.
    ///
    /// # Errors
    /// A layer that the model does not have. (Anything else was checked when the folder was opened.)
    pub fn tensors(&self, block: Block) -> Result<Vec<TensorEntry>, ModelError> {
        BlockLayout::of(&self.config, block).entries.into_iter().map(|entry| self.find(block, entry)).collect()
    }

    fn find(&self, block: Block, entry: LayoutEntry) -> Result<TensorEntry, ModelError> {
        let name = entry.role.file_name(block);
        let alias = match entry.role {
            TensorRole::Embedding if self.config.tied => Some(OUTPUT_NAME),
            TensorRole::Output if self.config.tied => Some(EMBEDDING_NAME),
            _ => None,
        };
        // Of a tied matrix stored twice the embedding's copy is used, by embedding and head alike.
        let names = match alias {
            Some(_) => vec![EMBEDDING_NAME, OUTPUT_NAME],
            None => vec![name.as_str()],
        };
        let found = names.iter().find_map(|name| Some((*name, self.tensors.get(*name)?)));
        let Some((name, (file, stored))) = found else {
            return Err(self.missing(&name, alias));
        };
        let fault = |reason| ModelError::Tensor { path: file.clone(), tensor: name.to_owned(), reason };
        if stored.shape != entry.shape {
            return Err(fault(format!(
                "has shape {:?}, config.json asks for {:?}: config and weights are not of the same model",
                stored.shape, entry.shape
            )));
        }
        let dtype = supported(stored.dtype);
        if dtype != Some(entry.dtype) {
            return Err(fault(format!(
                "is stored as {}, config.json says {}: convert the weights to one dtype, or correct \"dtype\" (\"torch_dtype\") \
                 in config.json",
                stored.dtype, entry.dtype
            )));
        }
        Ok(TensorEntry {
            role: entry.role,
            name: name.to_owned(),
            file: file.clone(),
            offset: stored.offset,
            bytes: stored.bytes,
            dtype: entry.dtype,
            shape: entry.shape,
        })
    }

    fn missing(&self, name: &str, alias: Option<&str>) -> ModelError {
        let files: BTreeSet<&PathBuf> = self.tensors.values().map(|(file, _)| file).collect();
        let path = match (files.len(), files.first()) {
            (1, Some(only)) => (*only).clone(),
            _ => self.path.clone(),
        };
        let or = alias.map(|alias| format!(" (nor {alias:?}, which the tied config would allow)")).unwrap_or_default();
        let hint = if name == OUTPUT_NAME && alias.is_none() {
            "; where the model shares it with the embedding, config.json must say \"tie_word_embeddings\": true"
        } else {
            "; config and weights are not of the same model, or a file is incomplete"
        };
        ModelError::Tensor { path, tensor: name.to_owned(), reason: format!("is missing{or}{hint}") }
    }
}

const fn supported(stored: StoredDtype) -> Option<Dtype> {
    match stored {
        StoredDtype::BF16 => Some(Dtype::Bf16),
        StoredDtype::F16 => Some(Dtype::F16),
        StoredDtype::F32 => Some(Dtype::F32),
        _ => None,
    }
}

type Located = (String, (PathBuf, StoredTensor));

fn in_file(path: &Path, hint: &'static str) -> Result<impl Iterator<Item = Located> + use<>, ModelError> {
    let (tensors, path) = (read_header(path, hint)?, path.to_owned());
    Ok(tensors.into_iter().map(move |(name, tensor)| (name, (path.clone(), tensor))))
}

/// The tensors that the index names, each from the file that the index gives for it.
fn in_shards(dir: &Path, index: &Path) -> Result<BTreeMap<String, (PathBuf, StoredTensor)>, ModelError> {
    let damaged = |reason: String| ModelError::Weights { path: index.to_owned(), reason };
    let bytes = read_bounded(index, INDEX_LIMIT, MISSING_WEIGHTS)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|fault| damaged(format!("not valid JSON: {fault}")))?;
    let map = Fields::new(index, &value)?.object("weight_map")?;
    let map =
        map.ok_or_else(|| damaged("the field \"weight_map\" is missing: not an index of safetensors files".into()))?;
    let mut files = BTreeMap::new();
    for (tensor, file) in map.values() {
        let name = file.as_str().filter(|name| is_plain_file_name(name)).ok_or_else(|| {
            damaged(format!(
                "tensor {tensor:?} must be given the name of a file in this folder, found {}",
                crate::json::kind(file)
            ))
        })?;
        files.entry(name).or_insert_with(Vec::new).push(tensor);
    }
    let mut located = BTreeMap::new();
    for (file, tensors) in files {
        let path = dir.join(file);
        let mut stored = read_header(&path, MISSING_SHARD)?;
        for tensor in tensors {
            let found = stored.remove(tensor).ok_or_else(|| ModelError::Tensor {
                path: path.clone(),
                tensor: tensor.clone(),
                reason: format!("is missing; {INDEX_FILE} says that it is in this file: download the model again"),
            })?;
            located.insert(tensor.clone(), (path.clone(), found));
        }
    }
    Ok(located)
}

/// Whether `name` stays in the folder that it is joined to.
fn is_plain_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['\0', '\\'])
}
