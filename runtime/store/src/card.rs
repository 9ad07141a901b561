//! A model's small files (config, tokenizer, headers of its weights) brought into a folder of the store.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path},
};

use lime_model::{check_header, header_bytes, header_file, other_form};
use serde_json::Value;

use crate::{OriginFile, StoreError, disk, origin::Origin};

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Taken where they are there.
const OTHERS: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];
/// Asked for where there are no weights as they are read and a source cannot list what it has.
const OTHER_FORMS: [&str; 6] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.safetensors",
    "consolidated.00.pth",
    "adapter_model.safetensors",
    "adapter_model.bin",
];
/// No such file is larger.
const SMALL_FILE: u64 = 64 << 20;
/// Most headers fit into this, and so take one request.
const FIRST_LOOK: u64 = 64 << 10;

/// What the source says now of each file that [`fetch`] would bring; `None` where that cannot be told without fetching, because
/// the index of `known`, the files that are in `folder`, is no longer the source's.
pub(crate) fn describe(
    origin: &dyn Origin,
    folder: &Path,
    known: &[OriginFile],
) -> Result<Option<Vec<OriginFile>>, StoreError> {
    let mut files = Vec::with_capacity(known.len());
    for name in std::iter::once(CONFIG).chain(OTHERS) {
        files.extend(origin.describe(name)?);
    }
    let Some(index) = origin.describe(INDEX)? else {
        files.extend(origin.describe(SINGLE)?);
        return Ok(Some(files));
    };
    if !known.contains(&index) {
        return Ok(None);
    }
    files.push(index);
    for shard in shards(&folder.join(INDEX))? {
        files.extend(origin.describe(&shard)?);
    }
    Ok(Some(files))
}

/// Fills `folder` with the model's small files and gives back what the source says of each file.
pub(crate) fn fetch(origin: &dyn Origin, model: &str, folder: &Path) -> Result<Vec<OriginFile>, StoreError> {
    let mut files = Vec::new();
    let missing = |file: &str, hint| StoreError::NotThere { file: file.to_owned(), model: model.to_owned(), hint };
    let Some(config) = origin.describe(CONFIG)? else { return Err(missing(CONFIG, instead(origin)?)) };
    files.push(whole(origin, config, folder)?);
    for name in OTHERS {
        if let Some(file) = origin.describe(name)? {
            files.push(whole(origin, file, folder)?);
        }
    }
    // An index says which files are the model's; one file beside them is of something else.
    let Some(index) = origin.describe(INDEX)? else {
        let Some(single) = origin.describe(SINGLE)? else { return Err(missing(SINGLE, instead(origin)?)) };
        header(origin, &single, folder)?;
        files.push(single);
        return Ok(files);
    };
    files.push(whole(origin, index, folder)?);
    for shard in shards(&folder.join(INDEX))? {
        let file = origin.describe(&shard)?;
        let file = file.ok_or_else(|| missing(&shard, "its index names it: the model is incomplete there".into()))?;
        header(origin, &file, folder)?;
        files.push(file);
    }
    Ok(files)
}

/// What the source has in the place of a model in a form that is read.
fn instead(origin: &dyn Origin) -> Result<String, StoreError> {
    let mut names = origin.names();
    if names.is_empty() {
        for name in OTHER_FORMS {
            names.extend(origin.describe(name)?.map(|file| file.name));
        }
    }
    let hint =
        "a Hugging Face model has config.json, tokenizer.json and *.safetensors; GGUF and pickled weights are not read";
    Ok(other_form(&names).unwrap_or_else(|| hint.to_owned()))
}

fn whole(origin: &dyn Origin, file: OriginFile, folder: &Path) -> Result<OriginFile, StoreError> {
    let path = folder.join(&file.name);
    if file.bytes > SMALL_FILE {
        let reason = format!("the source gives it {} bytes, which no such file has", file.bytes);
        return Err(StoreError::Damaged { path: file.name.into(), reason });
    }
    disk::write_whole(&path, &bytes(origin, &file, 0, file.bytes)?)?;
    Ok(file)
}

fn header(origin: &dyn Origin, file: &OriginFile, folder: &Path) -> Result<(), StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: file.name.clone().into(), reason };
    let mut prefix = bytes(origin, file, 0, FIRST_LOOK.min(file.bytes))?;
    let size = header_bytes(&prefix).map_err(damaged)?;
    if size > file.bytes {
        return Err(damaged(format!("its header claims {size} bytes, the file has {}: it is cut short", file.bytes)));
    }
    match size.checked_sub(prefix.len() as u64) {
        Some(rest) if rest > 0 => prefix.extend(bytes(origin, file, prefix.len() as u64, rest)?),
        _ => prefix.truncate(size as usize),
    }
    check_header(Path::new(&file.name), &prefix, file.bytes)?;
    disk::write_whole(&header_file(&folder.join(&file.name)), &prefix)
}

fn bytes(origin: &dyn Origin, file: &OriginFile, from: u64, bytes: u64) -> Result<Vec<u8>, StoreError> {
    let mut all = Vec::with_capacity(bytes as usize);
    if bytes > 0 {
        origin.read(file, from, bytes, &mut |part| {
            all.extend_from_slice(part);
            Ok(())
        })?;
    }
    Ok(all)
}

/// The files that an index names, each of which must stay in its folder.
fn shards(index: &Path) -> Result<BTreeSet<String>, StoreError> {
    let damaged = |reason: &str| StoreError::Damaged { path: INDEX.into(), reason: reason.into() };
    let text = fs::read(index).map_err(StoreError::io("read", index))?;
    let value: Value = serde_json::from_slice(&text).map_err(|fault| damaged(&format!("not valid JSON: {fault}")))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| damaged("it has no \"weight_map\": not an index of safetensors files"))?;
    let plain = |name: &&str| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
            && name.ends_with(".safetensors")
            && !name.contains(['\0', '\\', '?', '#', '%'])
    };
    let names = map.values().map(|file| file.as_str().filter(plain).map(str::to_owned));
    names.collect::<Option<_>>().ok_or_else(|| damaged("it names a file that is not a *.safetensors of its folder"))
}
