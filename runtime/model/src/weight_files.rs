//! Which files of a folder hold its weights, and which tensors lie where in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use lime_files::{Fields, FileError, read_bounded};
use serde_json::Value;

use crate::{
    error::ModelError,
    gguf::{Gguf, is_gguf},
    other_forms::other_form,
    safetensors::{Tensors, read_header},
    tensor_role::OUTPUT_NAME,
};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
const INDEX_LIMIT: u64 = 64 << 20;
const MISSING_WEIGHTS: &str =
    "the folder must hold model.safetensors, or model.safetensors.index.json and the files that it names";
const MISSING_SHARD: &str = "model.safetensors.index.json names it; copy or download the whole model again";

/// The tensors in the files of `dir`, by the headers of these.
pub(crate) fn locate(dir: &Path) -> Result<Tensors, ModelError> {
    let (single, index) = (dir.join(SINGLE_FILE), dir.join(INDEX_FILE));
    // An index says which files are the model's; one file beside them is of something else.
    if index.exists() {
        return in_shards(dir, &index);
    }
    let tensors = read_header(&single, MISSING_WEIGHTS).map_err(|fault| instead(dir, fault))?;
    Ok(tensors.into_iter().map(|(name, tensor)| (name, (single.clone(), tensor))).collect())
}

/// The GGUF model whose headers a weight store keeps in this folder, in the place of other weights.
pub(crate) fn gguf_in(dir: &Path) -> Result<Option<Gguf>, ModelError> {
    let listed = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let kept = listed.filter(|path| path.extension().is_some_and(|ending| ending == "header"));
    // Of several parts any will do: they are opened together.
    match kept.map(|path| path.with_extension("")).filter(|path| is_gguf(path)).min() {
        Some(first) => Gguf::open(&first).map(Some),
        None => Ok(None),
    }
}

/// What is there in the place of a file that is missing.
pub(crate) fn instead(folder: &Path, fault: ModelError) -> ModelError {
    let ModelError::File(FileError::Missing { path, .. }) = &fault else { return fault };
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_weights = names.iter().any(|name| name == SINGLE_FILE || name == INDEX_FILE);
    match other_form(&names).filter(|_| !is_weights) {
        Some(found) => ModelError::OtherForm { path: path.clone(), found },
        None => fault,
    }
}

/// The names of the tensors in the index of `dir`; none where there is no index, or a damaged one.
pub(crate) fn names_in_index(dir: &Path) -> BTreeSet<String> {
    let bytes = read_bounded(&dir.join(INDEX_FILE), INDEX_LIMIT, MISSING_WEIGHTS).unwrap_or_default();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let names = value.get("weight_map").and_then(Value::as_object);
    names.into_iter().flat_map(serde_json::Map::keys).cloned().collect()
}

/// The tensors that the index names, each from the file that the index gives for it.
fn in_shards(dir: &Path, index: &Path) -> Result<Tensors, ModelError> {
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
                lime_files::kind(file)
            ))
        })?;
        files.entry(name).or_insert_with(Vec::new).push(tensor);
    }
    let (mut located, mut unnamed_head) = (Tensors::new(), None);
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
        // What else is in the file would be passed over, and a head must not be.
        if stored.contains_key(OUTPUT_NAME) {
            unnamed_head = Some(path);
        }
    }
    if let Some(path) = unnamed_head.filter(|_| !located.contains_key(OUTPUT_NAME)) {
        let reason = format!("is in this file, and {INDEX_FILE} does not name it: download the model again");
        return Err(ModelError::Tensor { path, tensor: OUTPUT_NAME.into(), reason });
    }
    Ok(located)
}

/// Whether `name` stays in the folder that it is joined to.
fn is_plain_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['\0', '\\'])
}
