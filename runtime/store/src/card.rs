//! A model's small files (config, tokenizer, headers of its weights) brought into a folder of the store.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Component, Path},
};

use lime_model::{check_header, gguf_header_bytes, header_bytes, header_file, is_gguf, other_form};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    disk,
    error::StoreError,
    offers,
    origin::{Origin, OriginFile},
};

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
pub(crate) const SMALL_FILE: u64 = 64 << 20;
/// Nor is an index: the largest that are known have 10 MiB.
const INDEX_LIMIT: u64 = 32 << 20;
/// No model is in so many files: the largest that are known have some hundred.
const MOST_SHARDS: usize = 4096;
/// How often a file that is not what its source promises is fetched.
const TRIES: u32 = 3;
/// Most headers fit into this, and so take one request.
const FIRST_LOOK: u64 = 64 << 10;
const WEIGHTS: &str = ".safetensors";

/// What the source says now of each file that [`fetch`] would bring; `None` where that cannot be told without fetching, because
/// the index among the `known` files is no longer the source's.
pub(crate) fn describe(origin: &dyn Origin, known: &[OriginFile]) -> Result<Option<Vec<OriginFile>>, StoreError> {
    let mut files = Vec::with_capacity(known.len());
    for name in std::iter::once(CONFIG).chain(OTHERS) {
        files.extend(origin.describe_knowing(name, known)?);
    }
    let weights = origin.weights()?;
    for name in &weights {
        files.extend(origin.describe(name)?);
    }
    if !weights.is_empty() {
        return Ok(Some(files));
    }
    let Some(index) = origin.describe(INDEX)? else {
        files.extend(origin.describe(SINGLE)?);
        return Ok(Some(files));
    };
    if !known.contains(&index) {
        return Ok(None);
    }
    files.push(index);
    for shard in known.iter().filter(|file| file.name.ends_with(WEIGHTS)) {
        files.extend(origin.describe(&shard.name)?);
    }
    Ok(Some(files))
}

/// Fills `folder` with the model's small files and gives back what the source says of each file.
pub(crate) fn fetch(origin: &dyn Origin, model: &str, folder: &Path) -> Result<Vec<OriginFile>, StoreError> {
    let mut files = Vec::new();
    let missing = |file: &str, hint| StoreError::NotThere { file: file.to_owned(), model: model.to_owned(), hint };
    let Some(config) = origin.describe(CONFIG)? else { return Err(missing(CONFIG, instead(origin, model))) };
    files.push(whole(origin, config, folder)?);
    for name in OTHERS {
        if let Some(file) = origin.describe(name)? {
            files.push(whole(origin, file, folder)?);
        }
    }
    let weights = origin.weights()?;
    for name in &weights {
        let file = origin.describe(name)?.ok_or_else(|| missing(name, "it was there a moment ago".into()))?;
        header(origin, &file, folder)?;
        files.push(file);
    }
    if !weights.is_empty() {
        return Ok(files);
    }
    // An index says which files are the model's; one file beside them is of something else.
    let Some(index) = origin.describe(INDEX)? else {
        let Some(single) = origin.describe(SINGLE)? else { return Err(missing(SINGLE, instead(origin, model))) };
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
pub(crate) fn instead(origin: &dyn Origin, model: &str) -> String {
    // That something is missing is what is to be said: a source that does not even answer this adds nothing.
    let listed = origin.listed().unwrap_or_default();
    let offers = offers::offers(&listed);
    if !offers.is_empty() {
        let how = if model.starts_with("hf://") { "hf://ORG/NAME:QUANT" } else { "by the file's own name" };
        return format!("there are GGUF files, of which one is to be named, {how}: {}", offers::listing(&offers));
    }
    let mut names: Vec<String> = listed.into_iter().map(|file| file.name).collect();
    if names.is_empty() {
        for name in OTHER_FORMS {
            names.extend(origin.describe(name).ok().flatten().map(|file| file.name));
        }
    }
    let hint = "a Hugging Face model has config.json, tokenizer.json and *.safetensors; pickled weights are not read";
    other_form(&names).unwrap_or_else(|| hint.to_owned())
}

fn whole(origin: &dyn Origin, file: OriginFile, folder: &Path) -> Result<OriginFile, StoreError> {
    let path = folder.join(&file.name);
    let damaged = |reason: String| StoreError::Damaged { path: file.name.clone().into(), reason };
    if file.bytes > if file.name == INDEX { INDEX_LIMIT } else { SMALL_FILE } {
        return Err(damaged(format!("the source gives it {} bytes, which no such file has", file.bytes)));
    }
    let promised = origin.promised(&file.name);
    for _ in 0..TRIES {
        let bytes = bytes(origin, &file, 0, file.bytes)?;
        if promised.as_ref().is_none_or(|promised| promised.is_of(&bytes)) {
            disk::write_whole(&path, &bytes)?;
            return Ok(file);
        }
        tracing::warn!(file = file.name, "its bytes are not those that its source promises: fetched again");
    }
    let promised = promised.map(|promised| promised.to_string()).unwrap_or_default();
    Err(damaged(format!(
        "its source promises {promised}, and {TRIES} times other bytes came: something on the way changes them, or the server's copy is damaged"
    )))
}

/// Fetches the files of those `names` of a card into `folder`, each as it was described in `files`.
pub(crate) fn fetch_again<'a>(
    origin: &dyn Origin,
    files: &[OriginFile],
    names: impl Iterator<Item = &'a str>,
    folder: &Path,
) -> Result<(), StoreError> {
    for name in names {
        let of = |wanted: &str| files.iter().find(|file| file.name == wanted);
        match (of(name), name.strip_suffix(".header").and_then(of)) {
            (Some(file), _) => drop(whole(origin, file.clone(), folder)?),
            (None, Some(file)) => header(origin, file, folder)?,
            (None, None) => {}
        }
    }
    Ok(())
}

/// The names of the card's files, by what the source has.
pub(crate) fn names(files: &[OriginFile]) -> impl Iterator<Item = String> {
    files.iter().map(|file| match file.name.ends_with(WEIGHTS) || is_gguf(Path::new(&file.name)) {
        true => header_file(Path::new(&file.name)).to_string_lossy().into_owned(),
        false => file.name.clone(),
    })
}

fn header(origin: &dyn Origin, file: &OriginFile, folder: &Path) -> Result<(), StoreError> {
    if is_gguf(Path::new(&file.name)) {
        return disk::write_whole(&header_file(&folder.join(&file.name)), &gguf_header(origin, file)?);
    }
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

/// The header of a GGUF file, whose tensors its size has room for.
pub(crate) fn gguf_header(origin: &dyn Origin, file: &OriginFile) -> Result<Vec<u8>, StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: file.name.clone().into(), reason };
    let (mut prefix, mut wanted) = (Vec::new(), FIRST_LOOK);
    loop {
        let more = wanted.min(file.bytes) - prefix.len() as u64;
        prefix.extend(bytes(origin, file, prefix.len() as u64, more)?);
        let (size, end) = gguf_header_bytes(&prefix).map_err(damaged)?;
        match size {
            Some(size) if size <= prefix.len() as u64 && end <= file.bytes => {
                prefix.truncate(size as usize);
                return Ok(prefix);
            }
            Some(size) if end <= file.bytes => wanted = size,
            _ if end > file.bytes || prefix.len() as u64 >= file.bytes => {
                let reason = format!("its header speaks of {end} bytes, the file has {}: it is cut short", file.bytes);
                return Err(damaged(reason));
            }
            _ => wanted = end,
        }
    }
}

/// Some of a file's bytes.
pub(crate) fn bytes(origin: &dyn Origin, file: &OriginFile, from: u64, bytes: u64) -> Result<Vec<u8>, StoreError> {
    // As it comes: what a source claims is not what it has.
    let mut all = Vec::new();
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
    let index: Index = serde_json::from_slice(&text).map_err(|fault| damaged(&format!("not an index: {fault}")))?;
    let Shards(names) =
        index.weight_map.ok_or_else(|| damaged("it has no \"weight_map\": not an index of safetensors files"))?;
    let plain = |name: &String| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
            && name.ends_with(WEIGHTS)
            && !name.contains(['\0', '\\', '?', '#', '%'])
    };
    if names.iter().all(plain) {
        return Ok(names);
    }
    Err(damaged("it names a file that is not a *.safetensors of its folder"))
}

/// What is needed of an index; the rest of it is never held.
#[derive(Deserialize)]
struct Index {
    weight_map: Option<Shards>,
}

/// The files of an index's map, each once.
struct Shards(BTreeSet<String>);

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Shards;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensors to files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shards, A::Error> {
                let mut files = BTreeSet::new();
                while let Some((IgnoredAny, file)) = map.next_entry::<IgnoredAny, String>()? {
                    files.insert(file);
                    if files.len() > MOST_SHARDS {
                        return Err(Error::custom(format!("it names more than {MOST_SHARDS} files")));
                    }
                }
                Ok(Shards(files))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<BTreeSet<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        fs::write(&path, text).unwrap();
        shards(&path).map_err(|fault| fault.to_string())
    }

    #[test]
    fn an_index_names_files_of_its_folder_and_not_too_many() {
        let map = |entries: &str| format!("{{\"metadata\": {{\"total_size\": 1}}, \"weight_map\": {{{entries}}}}}");
        let two = of(&map("\"a\": \"1.safetensors\", \"b\": \"1.safetensors\", \"c\": \"2.safetensors\"")).unwrap();
        assert_eq!(two.into_iter().collect::<Vec<_>>(), ["1.safetensors", "2.safetensors"]);
        let many: Vec<String> = (0..5000).map(|index| format!("\"{index}\": \"{index}.safetensors\"")).collect();
        for (text, says) in [
            (map("\"a\": \"../1.safetensors\""), "not a *.safetensors of its folder"),
            (map("\"a\": 1"), "not an index"),
            ("{}".to_owned(), "weight_map"),
            ("[]".to_owned(), "not an index"),
            (map(&many.join(",")), "more than 4096 files"),
        ] {
            let fault = of(&text).unwrap_err();
            assert!(fault.contains(says), "{fault}");
        }
    }
}
