//! What the store knows of a model: where it comes from and which files it has there. Blocks describe themselves.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{disk, error::StoreError, origin::OriginFile, source::Source};

const VERSION: u32 = 2;
/// Has no digests of the small files.
const WITHOUT_DIGESTS: u32 = 1;
const FILE: &str = "manifest.json";
const LIMIT: u64 = 16 << 20;

/// What the store knows of a model. It is written once, with the model's folder: another revision, or the same place with other files, is
/// another model. Only the digests of small files that an older version did not record are added later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The form of this file and of the folder.
    pub version: u32,
    /// A short name for people.
    pub name: String,
    /// The source without its revision.
    pub place: String,
    /// The revision that was asked for, such as a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What that stood for, such as a commit; empty where a source has none.
    pub revision: String,
    /// The path of the GGUF file that the model is in, where it was looked for at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The model's files at the source, by name.
    pub files: Vec<OriginFile>,
    /// The SHA-256 of each file in the folder `card`, by name; empty where an older version did not record them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub card: BTreeMap<String, String>,
}

impl Manifest {
    pub(crate) fn new(source: &Source, revision: String, mut files: Vec<OriginFile>) -> Self {
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let asked = source.revision().map(str::to_owned);
        let card = BTreeMap::new();
        let (name, place) = (source.name(), source.place());
        Self { version: VERSION, name, place, asked, revision, found: None, files, card }
    }

    /// The same of a model whose file was looked for, and `found` at this path.
    pub(crate) fn found_at(self, found: Option<&str>) -> Self {
        Self { found: found.map(str::to_owned), ..self }
    }

    /// The same with the digests of the small files.
    pub(crate) fn with_card(self, card: BTreeMap<String, String>) -> Self {
        Self { version: VERSION, card, ..self }
    }

    /// The name of the model's folder: readable, and different whenever place, revision or a file of the source is.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(&self.place);
        add(&self.revision);
        self.found.iter().for_each(|found| add(found));
        for file in &self.files {
            add(&file.name);
            add(&file.bytes.to_string());
            add(&file.etag);
        }
        let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let name: String = self.name.chars().map(plain).take(64).collect();
        format!("{}-{digest}", name.trim_start_matches('.'))
    }

    /// Whether this is the model that `source` asks for, as far as can be told without asking the source.
    pub fn is_of(&self, source: &Source) -> bool {
        let asked = source.revision();
        self.place == source.place() && (asked == self.asked.as_deref() || asked == Some(&self.revision))
    }

    /// Whether this is of `source`'s place at `revision`, as the source calls it.
    pub(crate) fn is_at(&self, source: &Source, revision: &str) -> bool {
        self.place == source.place() && self.revision == revision
    }

    /// The source with the revision fixed, and the file that was looked for, so that it is the same whenever it is asked.
    pub(crate) fn source(&self) -> Result<Source, StoreError> {
        let source: Source = self.place.parse()?;
        let source = self.found.iter().fold(source, |source, path| source.in_file(path));
        if self.revision.is_empty() { Ok(source) } else { source.at(&self.revision) }
    }

    pub(crate) fn file(&self, name: &str) -> Option<&OriginFile> {
        self.files.iter().find(|file| file.name == name)
    }

    pub(crate) fn read(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let size = fs::metadata(&path).map_err(StoreError::io("read", &path))?.len();
        if size > LIMIT {
            return Err(damaged(format!(
                "{size} bytes are too many for a manifest: pull the model again, which writes it anew"
            )));
        }
        let bytes = fs::read(&path).map_err(StoreError::io("read", &path))?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|fault| {
            damaged(format!("not a manifest ({fault}): pull the model again, which writes it anew"))
        })?;
        if !(WITHOUT_DIGESTS..=VERSION).contains(&manifest.version) {
            return Err(StoreError::OtherForm { path: path.clone(), found: manifest.version, known: VERSION });
        }
        if manifest.card.is_empty() && manifest.version != WITHOUT_DIGESTS {
            return Err(damaged(
                "it has no digests of the model's files: pull the model again, which writes it anew".into(),
            ));
        }
        // The folder's name comes of what the manifest says: one that says another thing has changed.
        if folder.file_name().is_none_or(|name| name != manifest.key().as_str()) {
            return Err(damaged(
                "it is not what this folder is named after: pull the model again, which writes it anew".into(),
            ));
        }
        Ok(manifest)
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|fault| StoreError::Damaged { path: path.clone(), reason: fault.to_string() })?;
        disk::write_whole(&path, &text)
    }

    /// Takes the place of the manifest in `folder`.
    pub(crate) fn replace(&self, folder: &Path, scratch: &Path) -> Result<(), StoreError> {
        self.write(scratch)?;
        fs::rename(scratch.join(FILE), folder.join(FILE)).map_err(StoreError::io("name", folder.join(FILE)))?;
        disk::sync_folder(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_revision_or_another_file_is_another_model() {
        let source: Source = "hf://a/b".parse().unwrap();
        let file = |etag: &str| OriginFile { name: "model.safetensors".into(), bytes: 8, etag: etag.into() };
        let one = Manifest::new(&source, "c1".into(), vec![file("x")]);
        assert!(one.key().starts_with("b-"), "{}", one.key());
        assert_ne!(one.key(), Manifest::new(&source, "c2".into(), vec![file("x")]).key());
        assert_ne!(one.key(), Manifest::new(&source, "c1".into(), vec![file("y")]).key());
        assert_eq!(one.key(), Manifest::new(&source, "c1".into(), vec![file("x")]).key());
        assert!(one.is_of(&source) && one.is_of(&"hf://a/b@c1".parse().unwrap()));
        assert!(!one.is_of(&"hf://a/b@c2".parse().unwrap()));
    }
}
