//! A model's folder: config and headers read and checked, weights left where they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use lime_plan::{Block, Format, LayerIndex, ModelCard};

use crate::{
    config::{Draft, ModelConfig},
    error::ModelError,
    formats::Formats,
    gguf::{Gguf, is_gguf},
    layout::{BlockLayout, LayoutEntry},
    safetensors::Tensors,
    stored::{Place, RowOrder, Run, Stored},
    tensor_role::{OUTPUT_NAME, TensorRole},
    weight_files::{gguf_in, instead, locate},
};

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
    /// How it is stored.
    pub format: Format,
    /// `[rows, columns]` of a matrix, `[length]` of a vector.
    pub shape: Vec<usize>,
    /// The order of its rows in the file.
    pub order: RowOrder,
}

impl TensorEntry {
    /// Its bytes in the layout's order.
    pub fn runs(&self) -> Vec<Run> {
        self.order.runs(self.offset, self.bytes, self.shape.first().copied().unwrap_or(1))
    }
}

/// A Hugging Face model folder whose config and headers have been checked against each other.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    tensors: Tensors,
}

impl ModelFolder {
    /// Opens a folder: reads `config.json` and the header of every safetensors file, and checks that every tensor of
    /// the model is there with the right shape. Reads no weights. What headers know better than the config, types and whether
    /// the head has a matrix of its own, is taken from them.
    /// A GGUF file will do too.
    /// In the place of a weights file its [`crate::header_file`] will do, as in the weight store's folders of models.
    ///
    /// # Errors
    /// The first fault, with the file and the tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref().to_owned();
        let gguf = if is_gguf(&path) { Some(Gguf::open(&path)?) } else { gguf_in(&path)? };
        let draft = match &gguf {
            Some(gguf) if is_gguf(&path) => ModelConfig::from_bytes(&path, &gguf.config_json()?)?,
            _ => ModelConfig::read(&path).map_err(|fault| instead(&path, fault.into()))?,
        };
        let tensors = gguf.as_ref().map_or_else(|| locate(&path), Gguf::tensors)?;
        let config = if gguf.is_some() { mixed(draft, &tensors) } else { with_headers(draft, &tensors) };
        let mut folder = Self { path, config, tensors };
        let mut used = BTreeSet::new();
        for block in folder.config.card("").all_blocks() {
            used.extend(folder.tensors(block)?.into_iter().map(|tensor| tensor.name));
        }
        let remark = folder.unused(&used)?;
        folder.config.remarks.extend(remark);
        Ok(folder)
    }

    /// A sentence about the tensors that are not used. None may be of the kinds that would have changed what is computed.
    fn unused(&self, used: &BTreeSet<String>) -> Result<Option<String>, ModelError> {
        let unused = || self.tensors.iter().filter(|(name, _)| !used.contains(*name));
        if let Some((name, (file, _))) =
            unused().find(|(name, _)| name.ends_with(".bias") || name.ends_with("norm.weight"))
        {
            let reason = "is in the file and has no place in a model as config.json describes it: correct the number of layers or the \
                          biases in config.json, or take the files that belong to it";
            return Err(ModelError::Tensor { path: file.clone(), tensor: name.clone(), reason: reason.into() });
        }
        Ok(match (unused().count(), unused().next()) {
            (_, None) => None,
            (1, Some((name, _))) => Some(format!("one tensor is not used: {name}")),
            (count, Some((name, _))) => Some(format!("{count} tensors are not used, such as {name}")),
        })
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

    /// What a person should know of how the files were read, in sentences.
    pub fn remarks(&self) -> &[String] {
        &self.config.remarks
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
        let place = Stored::of(&self.config, block, entry.role, &entry.shape);
        let found = place.places.iter().find_map(|place| Some((place, self.tensors.get(&place.name)?)));
        let Some((Place { name, shape, first_row }, (file, stored))) = found else {
            return Err(self.missing(&place.places));
        };
        let fault = |reason| ModelError::Tensor { path: file.clone(), tensor: name.clone(), reason };
        let format = match &stored.format {
            Ok(format) => *format,
            Err(name) => {
                let what = "which is not supported: use the bf16, f16 or f32 weights of the model, or a GGUF file of another type";
                return Err(fault(format!("is stored as {name}, {what}")));
            }
        };
        if stored.shape != *shape {
            return Err(fault(format!(
                "has shape {:?}, config.json asks for {shape:?}: config and weights are not of the same model",
                stored.shape
            )));
        }
        if format != self.config.formats.of(block, entry.role) {
            let others =
                if entry.is_layer_matrix() { "other matrices of the layers" } else { "the same of other layers" };
            let expected = entry.format;
            return Err(fault(format!(
                "is stored as {format}, {others} as {expected}: convert the weights to one dtype"
            )));
        }
        if entry.shape.len() < 2 && format.element().is_none() {
            return Err(fault(format!("is stored as {format}, which a vector cannot be")));
        }
        // A tensor may be some rows of a larger one.
        let rows = match stored.shape.as_slice() {
            [length] => *length,
            [rows @ .., _] => rows.iter().product(),
            [] => 1,
        };
        let rows = rows.max(1) as u64;
        let row_bytes = stored.bytes / rows;
        Ok(TensorEntry {
            role: entry.role,
            name: name.clone(),
            file: file.clone(),
            offset: stored.offset + *first_row as u64 * row_bytes,
            bytes: row_bytes * entry.shape.first().copied().unwrap_or(1) as u64,
            format,
            shape: entry.shape,
            order: if stored.rotated { RowOrder::Pairs { head_dim: self.config.head_dim } } else { place.order },
        })
    }

    fn missing(&self, places: &[Place]) -> ModelError {
        let files: BTreeSet<&PathBuf> = self.tensors.values().map(|(file, _)| file).collect();
        let path = match (files.len(), files.first()) {
            (1, Some(only)) => (*only).clone(),
            _ => self.path.clone(),
        };
        let mut names = places.iter().map(|place| place.name.as_str());
        let name = names.next().unwrap_or_default();
        let or: String =
            names.filter(|other| *other != name).map(|other| format!(" (nor {other:?}, which would do)")).collect();
        let hint = if name == OUTPUT_NAME {
            "; where the model shares it with the embedding, config.json must say \"tie_word_embeddings\": true"
        } else {
            "; config and weights are not of the same model, or a file is incomplete"
        };
        ModelError::Tensor { path, tensor: name.to_owned(), reason: format!("is missing{or}{hint}") }
    }
}

/// The config with what the headers know better.
fn with_headers(draft: Draft, tensors: &Tensors) -> ModelConfig {
    let Draft { mut config, dtype: declared } = draft;
    config.untie_where(&|name| tensors.contains_key(name));
    let layers = [Block::Attention(LayerIndex(0)), Block::Mlp(LayerIndex(0))];
    let entries = |config: &ModelConfig, block| BlockLayout::of(config, block).entries;
    let stored = |config: &ModelConfig, block, entry: &LayoutEntry| {
        let places = Stored::of(config, block, entry.role, &entry.shape).places;
        places.iter().find_map(|place| tensors.get(&place.name)).and_then(|(_, stored)| stored.format.clone().ok())
    };
    let mut matrices =
        layers.into_iter().flat_map(|block| entries(&config, block).into_iter().map(move |it| (block, it)));
    let found = matrices.find_map(|(block, it)| stored(&config, block, &it).filter(|_| it.is_layer_matrix()));
    if let Some(found) = found {
        config.formats = Formats::all(found);
    }
    if let Some(declared) = declared.filter(|declared| *declared != config.dtype()) {
        let found = config.dtype();
        config
            .remarks
            .push(format!("config.json says {declared}, the weights are stored as {found} and used as they are"));
    }
    let mut others = Vec::new();
    for block in layers.into_iter().chain([Block::Embedding, Block::Head]) {
        let differs = entries(&config, block).into_iter().filter(|entry| !entry.is_layer_matrix());
        others.extend(differs.filter_map(|entry| Some((entry.role, stored(&config, block, &entry)?))));
    }
    others.retain(|(_, format)| *format != config.formats.usual());
    if let Some((role, format)) = others.first() {
        let (kinds, usual) = (others.len(), config.formats.usual());
        config.remarks.push(format!(
            "the layers' matrices are stored as {usual}, {kinds} kinds of other tensors are not, such as {role:?} ({format})"
        ));
    }
    for (role, format) in others {
        config.formats.set_role(role, format);
    }
    config
}

/// The config with the format of every tensor of a file that has each as it likes.
fn mixed(draft: Draft, tensors: &Tensors) -> ModelConfig {
    let mut config = draft.config;
    let mut found = Vec::new();
    for block in config.card("").all_blocks() {
        for entry in BlockLayout::of(&config, block).entries {
            let places = Stored::of(&config, block, entry.role, &entry.shape).places;
            let stored = places.iter().find_map(|place| tensors.get(&place.name)).map(|(_, stored)| stored);
            found.extend(stored.and_then(|stored| Some((block, entry, stored.format.clone().ok()?))));
        }
    }
    let matrices = found.iter().filter(|(_, entry, _)| entry.is_layer_matrix());
    let mut bytes: BTreeMap<Format, u64> = BTreeMap::new();
    matrices.for_each(|(_, entry, format)| *bytes.entry(*format).or_default() += entry.elements());
    if let Some((usual, _)) = bytes.into_iter().max_by_key(|(_, elements)| *elements) {
        config.formats = Formats::all(usual);
    }
    for (block, entry, format) in found {
        config.formats.set(block, entry.role, format);
    }
    config
}
