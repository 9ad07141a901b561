//! Models and what a block of them must hold, for the tests of this folder.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use lime_model::{BlockFiles as _, BlockLayout, ModelFolder};
use lime_plan::Block;
use lime_store::{EnsureOptions, Ensured, Source, Store, StoreError, StoredModel};

/// Every model of the repository, in every dtype and with and without a tied head.
pub(crate) const MODELS: [&str; 9] = [
    "bard-2m",
    "tiny-llama3-bf16",
    "tiny-llama-yarn-f16",
    "tiny-llama-linear-f32",
    "tiny-mistral-bf16",
    "tiny-qwen2-bf16",
    "tiny-qwen3-bf16",
    // Parts of larger tensors, and rows in another order.
    "tiny-phi3-bf16",
    "tiny-ernie4-5-bf16",
];

/// A model of the repository.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models").join(name)
}

pub(crate) fn source(name: &str) -> Source {
    Source::Folder(fixture(name))
}

/// A store in a folder that goes with the answer.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

pub(crate) fn all_blocks(model: &StoredModel) -> Vec<Block> {
    model.folder().card("").all_blocks().collect()
}

pub(crate) fn ensure(model: &StoredModel, blocks: &[Block]) -> Result<Ensured, StoreError> {
    model.ensure(blocks, EnsureOptions::default(), &mut |_| {})
}

/// Opens, pulls and checks a model whole.
pub(crate) fn verified(model: &StoredModel, blocks: &[Block]) {
    assert_eq!(model.verify(blocks, &|_, _| {}).unwrap(), []);
}

/// The file of `block` as the loader would find it.
pub(crate) fn file_of(model: &StoredModel, block: Block) -> PathBuf {
    model.locate(block, &BlockLayout::of(model.folder().config(), block)).unwrap().path
}

/// The bytes of a layout, put together from the model's own files tensor by tensor, zero between them.
pub(crate) fn expected(folder: &ModelFolder, block: Block, layout: &BlockLayout) -> Vec<u8> {
    let mut bytes = vec![0; layout.bytes as usize];
    for (entry, tensor) in layout.entries.iter().zip(folder.tensors(block).unwrap()) {
        let into = &mut bytes[entry.offset as usize..][..entry.bytes as usize];
        let file = fs::File::open(&tensor.file).unwrap();
        for run in tensor.runs() {
            file.read_exact_at(&mut into[run.at as usize..][..run.bytes as usize], run.from).unwrap();
        }
    }
    bytes
}

/// What a loader would read for `layout`.
pub(crate) fn stored(model: &StoredModel, block: Block, layout: &BlockLayout) -> Vec<u8> {
    let place = model.locate(block, layout).unwrap();
    assert_eq!((place.offset % 4096, place.bytes % 4096), (0, 0), "direct reads need pages");
    let mut bytes = vec![0; layout.bytes as usize];
    fs::File::open(&place.path).unwrap().read_exact_at(&mut bytes, place.offset).unwrap();
    bytes
}

/// Flips one bit of the file at `path`.
pub(crate) fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
