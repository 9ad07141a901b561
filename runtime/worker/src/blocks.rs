//! A device's blocks on its disk, made from the model's folder before a plan that streams is loaded.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use lime_model::{BlockFile, BlockFiles, BlockLayout, EngineError, ModelFolder};
use lime_planner::{Block, Bytes};

/// Blocks as plain files, one each, in a folder named after the model's.
#[derive(Debug)]
pub(crate) struct FolderBlocks {
    root: PathBuf,
}

impl FolderBlocks {
    /// Makes those of `blocks` that are not there. A block is written under another name, synced and renamed: what has its
    /// name is whole. `progress` hears of bytes that are there and in all.
    ///
    /// # Errors
    /// What the file system or the model's folder says.
    pub(crate) fn ensure(
        store: &Path,
        model: &ModelFolder,
        blocks: &[Block],
        progress: &mut dyn FnMut(Bytes, Bytes),
    ) -> Result<Self, EngineError> {
        let name = model.path().file_name().unwrap_or(model.path().as_os_str());
        let this = Self { root: store.join(name) };
        fs::create_dir_all(&this.root).map_err(|source| EngineError::Open { path: this.root.clone(), source })?;
        let layouts: Vec<_> = blocks.iter().map(|block| (*block, BlockLayout::of(model.config(), *block))).collect();
        let total = layouts.iter().map(|(_, layout)| Bytes(layout.bytes)).sum();
        let mut done = Bytes::ZERO;
        for (block, layout) in layouts {
            let path = this.path(block);
            if fs::metadata(&path).map_or(true, |found| found.len() != layout.bytes) {
                write(model, block, &layout, &path)?;
            }
            done += Bytes(layout.bytes);
            progress(done, total);
        }
        Ok(this)
    }

    fn path(&self, block: Block) -> PathBuf {
        self.root.join(format!("{block}.block"))
    }
}

impl BlockFiles for FolderBlocks {
    fn locate(&self, block: Block, layout: &BlockLayout) -> io::Result<BlockFile> {
        let path = self.path(block);
        let bytes = fs::metadata(&path)?.len();
        if bytes < layout.bytes {
            let text = format!("{} has {bytes} bytes, {} were expected", path.display(), layout.bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(BlockFile { path, offset: 0, bytes })
    }
}

fn write(model: &ModelFolder, block: Block, layout: &BlockLayout, path: &Path) -> Result<(), EngineError> {
    const PIECE: u64 = 4 << 20;
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let failed = |source| EngineError::Open { path: partial.clone(), source };
    let out = File::create(&partial).map_err(failed)?;
    out.set_len(layout.bytes).map_err(failed)?;
    let mut piece = vec![0; PIECE as usize];
    for tensor in model.tensors(block)? {
        let Some(entry) = layout.entry(tensor.role) else { continue };
        let unreadable = |source| EngineError::Open { path: tensor.file.clone(), source };
        let from = File::open(&tensor.file).map_err(unreadable)?;
        for offset in (0..entry.bytes).step_by(PIECE as usize) {
            let part = &mut piece[..PIECE.min(entry.bytes - offset) as usize];
            from.read_exact_at(part, tensor.offset + offset).map_err(unreadable)?;
            out.write_all_at(part, entry.offset + offset).map_err(failed)?;
        }
    }
    out.sync_all().map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)
}
