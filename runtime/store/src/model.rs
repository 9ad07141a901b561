//! One model in the store.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use lime_model::ModelFolder;
use lime_plan::{Block, Bytes};

use crate::{
    digest::Digest,
    disk,
    error::StoreError,
    http::options::RemoteOptions,
    journal::noted_bytes,
    known::KnownDigests,
    manifest::Manifest,
    names::{Names, remove},
    part::Part,
    state::{BlockState, look},
};

/// One model in the store: its small files, and the blocks that this device has of it. While one is open `lime store prune`
/// leaves the model alone.
#[derive(Debug)]
pub struct StoredModel {
    path: PathBuf,
    key: String,
    manifest: Manifest,
    folder: ModelFolder,
    remote: RemoteOptions,
    /// What readers' digests are compared with.
    pub(crate) known: KnownDigests,
    mended_files: Vec<(String, String)>,
    /// Locked, shared, for as long as this lives.
    _in_use: File,
}

pub(crate) const CARD: &str = "card";
pub(crate) const BLOCKS: &str = "blocks";
/// Locked, shared, by every process that has the model open.
pub(crate) const IN_USE: &str = "manifest.json";

/// The lock of a process that has the model in `path` open.
fn use_of(path: &Path) -> Result<File, StoreError> {
    let lock = path.join(IN_USE);
    loop {
        // A lock needs no right to write: a store may be mounted read-only.
        let in_use = File::open(&lock).map_err(StoreError::io("open", &lock))?;
        in_use.lock_shared().map_err(StoreError::io("lock", &lock))?;
        let held = in_use.metadata().map_err(StoreError::io("read", &lock))?.ino();
        // Another may have taken its place meanwhile: a lock on what is gone keeps nobody away.
        if held == fs::metadata(&lock).map_err(StoreError::io("read", &lock))?.ino() {
            return Ok(in_use);
        }
    }
}

impl StoredModel {
    pub(crate) fn open(path: PathBuf, remote: RemoteOptions) -> Result<Self, StoreError> {
        let in_use = use_of(&path)?;
        let manifest = Manifest::read(&path)?;
        let folder = ModelFolder::open(path.join(CARD))?;
        let known = KnownDigests::default();
        let mended_files = Vec::new();
        Ok(Self { key: manifest.key(), path, manifest, folder, remote, known, mended_files, _in_use: in_use })
    }

    pub(crate) fn with_mended(self, mended_files: Vec<(String, String)>) -> Self {
        Self { mended_files, ..self }
    }

    /// Small files that turned out damaged when the model was opened and were fetched again, with what was wrong.
    pub fn mended_files(&self) -> &[(String, String)] {
        &self.mended_files
    }

    /// The model's folder in the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name there, different for every revision and every change of a file at the source.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it comes from.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Config, tokenizer, templates and the headers of the weights files: a model folder without weights.
    pub const fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// What can be said of `block` without reading its data: of it as it is, else of its compact form. A head of which the norm alone is there is whole where the model's
    /// output matrix is the embedding.
    pub fn state(&self, block: Block) -> BlockState {
        let head = (block == Block::Head).then_some(Part::HeadNorm);
        let forms = [Part::Whole(block), Part::Compact(block)].into_iter().chain(head);
        let found = forms.map(|part| self.look(part)).find(|state| *state != BlockState::Absent);
        found.unwrap_or(BlockState::Absent)
    }

    /// The bytes that `block` takes in the store, half-made ones counted.
    pub fn bytes_on_disk(&self, block: Block) -> Bytes {
        let files = Part::all(self.folder.config()).into_iter().filter(|part| part.block() == block);
        let names = files.map(|part| self.names(part));
        Bytes(names.map(|names| disk::allocated(&names.whole) + disk::allocated(&names.part)).sum())
    }

    /// Removes `block`, so that the next [`StoredModel::ensure`] makes it again: for one whose bytes turned out to be wrong. One that
    /// the disk does not give stays, and is made again all the same.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn discard(&self, block: Block) -> Result<(), StoreError> {
        for part in Part::all(self.folder.config()).into_iter().filter(|part| part.block() == block) {
            if matches!(self.look(part), BlockState::Unreadable(_)) {
                continue;
            }
            remove(&self.names(part).whole)?;
        }
        Ok(())
    }

    /// The digest that the bytes of `block` must have, whole.
    pub fn digest(&self, block: Block) -> Option<Digest> {
        match self.look(Part::Whole(block)) {
            BlockState::Whole(digest) => Some(digest),
            BlockState::Absent | BlockState::Partial(_) | BlockState::Damaged(_) | BlockState::Unreadable(_) => None,
        }
    }

    pub(crate) const fn remote(&self) -> &RemoteOptions {
        &self.remote
    }

    pub(crate) fn blocks_folder(&self) -> PathBuf {
        self.path.join(BLOCKS)
    }

    /// What the files of `part` are called.
    pub(crate) fn names(&self, part: Part) -> Names {
        Names::of(self.blocks_folder(), part)
    }

    pub(crate) fn look(&self, part: Part) -> BlockState {
        let state = look(&self.names(part).whole, &self.key, part, &part.layout(self.folder.config()));
        match state {
            BlockState::Absent => match self.started_bytes(part) {
                0 => BlockState::Absent,
                bytes => BlockState::Partial(Bytes(bytes)),
            },
            state => state,
        }
    }

    /// Bytes of a half-made part that need not be fetched again.
    pub(crate) fn started_bytes(&self, part: Part) -> u64 {
        let names = self.names(part);
        if !matches!(part, Part::Compact(_)) && fs::exists(&names.part).unwrap_or(false) {
            noted_bytes(&names.journal, &self.journal_title(part))
        } else {
            0
        }
    }

    pub(crate) fn is_whole(&self, part: Part) -> bool {
        matches!(self.look(part), BlockState::Whole(_))
    }

    /// The first line of a part's journal: another model or another layout has another.
    pub(crate) fn journal_title(&self, part: Part) -> String {
        format!("lime-journal-1 {} {} {}", self.key, part.stem(), part.layout(self.folder.config()).bytes)
    }
}
