//! One model in the store.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use lime_model::{BlockFile, BlockFiles, BlockLayout, ModelFolder};
use lime_plan::{Block, Bytes};

use crate::{
    BlockState, Digest, EnsureOptions, Ensured, Manifest, Progress, RemoteOptions, StoreError,
    ensure::{ensure, started_bytes},
    known::KnownDigests,
    make::{Names, remove},
    part::Part,
    state::{header_bytes, look},
    verify::verify,
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
    known: KnownDigests,
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

    /// Makes exactly `blocks`, of which those that are whole are left alone, those half-made are gone on with and those damaged
    /// are made again. Of a tied head beside an embedding that stays in memory only the norm is made. `listener` hears of every step.
    ///
    /// Other processes may do the same at the same time: each block is made by one of them.
    ///
    /// # Errors
    /// What the source or the disk refused; what was made until then stays.
    pub fn ensure(
        &self,
        blocks: &[Block],
        options: EnsureOptions,
        listener: &mut (dyn FnMut(&Progress) + Send),
    ) -> Result<Ensured, StoreError> {
        let origin = crate::origin::connect(&self.manifest.source()?, &self.remote)?;
        ensure(self, &*origin, blocks, options, listener)
    }

    /// Reads those of `blocks` that are there past the page cache, and gives back the damaged ones with what is wrong. `report`
    /// hears of every block that was read, with its size.
    ///
    /// # Errors
    /// When reading is not possible at all; a block that cannot be read is damaged.
    pub fn verify(
        &self,
        blocks: &[Block],
        report: &(dyn Fn(Block, Bytes) + Sync),
    ) -> Result<Vec<(Block, String)>, StoreError> {
        let config = self.folder.config();
        let parts: Vec<Part> = Part::all(config).into_iter().filter(|part| blocks.contains(&part.block())).collect();
        let found = verify(self, &parts, &|part, state| {
            if *state != BlockState::Absent {
                report(part.block(), Bytes(part.layout(config).bytes));
            }
        })?;
        let reason = |state: BlockState| state.fault().unwrap_or_default().to_owned();
        Ok(found.into_iter().map(|(part, state)| (part.block(), reason(state))).collect())
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
        let names = files.map(|part| Names::of(self, part));
        Bytes(names.map(|names| crate::disk::allocated(&names.whole) + crate::disk::allocated(&names.part)).sum())
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
            remove(&Names::of(self, part).whole)?;
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

    pub(crate) fn look(&self, part: Part) -> BlockState {
        let state = look(&Names::of(self, part).whole, &self.key, part, &part.layout(self.folder.config()));
        match state {
            BlockState::Absent => match started_bytes(self, part) {
                0 => BlockState::Absent,
                bytes => BlockState::Partial(Bytes(bytes)),
            },
            state => state,
        }
    }

    pub(crate) fn is_whole(&self, part: Part) -> bool {
        matches!(self.look(part), BlockState::Whole(_))
    }

    /// The first line of a part's journal: another model or another layout has another.
    pub(crate) fn journal_title(&self, part: Part) -> String {
        format!("lime-journal-1 {} {} {}", self.key, part.stem(), part.layout(self.folder.config()).bytes)
    }

    /// The file that holds `block` as `layout` wants it.
    fn part_for(&self, block: Block, layout: &BlockLayout) -> Result<Part, StoreError> {
        let config = self.folder.config();
        if *layout == Part::Whole(block).layout(config) {
            return Ok(Part::Whole(block));
        }
        if *layout == Part::Compact(block).layout(config) {
            return Ok(Part::Compact(block));
        }
        if block == Block::Head && *layout == Part::HeadNorm.layout(config) {
            // The norm is also the beginning of a whole head.
            let alone = self.is_whole(Part::HeadNorm) || !self.is_whole(Part::Whole(block));
            return Ok(if alone { Part::HeadNorm } else { Part::Whole(block) });
        }
        let reason = format!("the layout asked for block {block} is not one of this model");
        Err(StoreError::Damaged { path: self.path.clone(), reason })
    }

    /// The part for `layout` if it is whole, its path and its digest.
    fn find(&self, block: Block, layout: &BlockLayout) -> Result<(Part, PathBuf, Digest), StoreError> {
        let part = self.part_for(block, layout)?;
        let path = Names::of(self, part).whole;
        match self.look(part) {
            BlockState::Whole(digest) => Ok((part, path, digest)),
            BlockState::Damaged(reason) | BlockState::Unreadable(reason) => {
                Err(StoreError::Damaged { path, reason: format!("block {block} {reason}") })
            }
            BlockState::Absent | BlockState::Partial(_) => {
                Err(StoreError::Missing { block: block.to_string(), model: self.manifest.name.clone() })
            }
        }
    }
}

impl BlockFiles for StoredModel {
    fn locate(&self, block: Block, layout: &BlockLayout) -> io::Result<BlockFile> {
        let (part, path, _) = self.find(block, layout).map_err(io::Error::other)?;
        let whole = part.layout(self.folder.config());
        Ok(BlockFile { path, offset: header_bytes(&self.key, part, &whole), bytes: whole.bytes })
    }

    fn digest(&self, chunk: &[u8]) -> u128 {
        Digest::of_chunk(chunk).0
    }

    fn check(&self, block: Block, layout: &BlockLayout, digests: &[u128]) -> io::Result<()> {
        let found = Digest::of_block(digests.iter().copied().map(Digest));
        if self.known.get(block, layout) == Some(found) {
            return Ok(());
        }
        let (part, path, expected) = self.find(block, layout).map_err(io::Error::other)?;
        let whole = part.layout(self.folder.config());
        if whole.bytes != layout.bytes {
            // Only the beginning was read, and the digest is of all of it.
            return match verify(self, &[part], &|_, _| {}).map_err(io::Error::other)?.pop() {
                Some((_, state)) => {
                    let reason = state.fault().unwrap_or_default().to_owned();
                    Err(io::Error::other(StoreError::Damaged { path, reason }))
                }
                None => {
                    self.known.set(block, layout, found);
                    Ok(())
                }
            };
        }
        if found == expected {
            self.known.set(block, layout, found);
            return Ok(());
        }
        let reason = format!(
            "block {block} was read with the digest {found}, its header says {expected}: a bit has flipped; `lime store verify --repair` makes it again"
        );
        Err(io::Error::other(StoreError::Damaged { path, reason }))
    }
}
