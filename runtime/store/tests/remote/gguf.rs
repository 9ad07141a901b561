//! GGUF files from servers: by a quantization, by their path, or by their address; in one file and in several.

use std::{fs, path::Path};

use lime_model::{BlockLayout, ModelFolder};
use lime_plan::Block;
use lime_store::{Source, Store, StoreError};

use crate::{
    common::{all_blocks, ensure, expected, stored, verified},
    made::Made,
    options,
    server::{COMMIT, Fault, Server, Strikes},
};

/// A repository of GGUF files: whole and in a folder of its own in two parts, of which one model lacks the second.
struct Hub {
    folder: tempfile::TempDir,
    server: Server,
}

const IN_TWO: [&str; 2] = ["F32/m-F32-00001-of-00002.gguf", "F32/m-F32-00002-of-00002.gguf"];

impl Hub {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join("m-GGUF").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let model = Made::llama();
        write("README.md", b"of GGUF files");
        write("m-Q8_0.gguf", &model.bytes());
        let [one, two] = model.in_two();
        write(IN_TWO[0], &one.bytes());
        write(IN_TWO[1], &two.bytes());
        write("m-Q2_K-00001-of-00002.gguf", &one.bytes());
        // Factors of rotary positions that stretch nothing: the one tensor whose numbers are read.
        let mut stretched = model.with(|made| made.tensor("rope_freqs.weight", &[8], 0)).bytes();
        let at = stretched.len() - 32;
        stretched[at..].copy_from_slice(&1f32.to_le_bytes().repeat(8));
        write("m-Q4_K_M.gguf", &stretched);
        let server = Server::start(folder.path().to_owned());
        Self { folder, server }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("m-GGUF").join(name)
    }

    fn store(&self) -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap().with_remote(options(&self.server));
        (root, store)
    }
}

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

/// Every block of the model is what is in the file at `path`.
fn is_of(store: &Store, source: &Source, path: &Path) {
    let (model, original) = (store.model(source).unwrap(), ModelFolder::open(path).unwrap());
    assert_eq!(model.folder().card(""), original.card(""));
    for block in all_blocks(&model) {
        ensure(&model, &[block]).unwrap();
        let layout = BlockLayout::of(original.config(), block);
        assert!(stored(&model, block, &layout) == expected(&original, block, &layout), "{source}: {block}");
    }
    verified(&model, &all_blocks(&model));
}

#[test]
fn every_way_to_name_a_file_gives_its_blocks_byte_for_byte() {
    let hub = Hub::start();
    let plain = format!("{}/plain/m-GGUF/m-Q8_0.gguf", hub.server.url());
    let parts = format!("{}/plain/m-GGUF/{}", hub.server.url(), IN_TWO[1]);
    for (text, file, name) in [
        ("hf://lime/m-GGUF:Q8_0", "m-Q8_0.gguf", "m-Q8_0"),
        ("hf://lime/m-GGUF:q4_k_m@main", "m-Q4_K_M.gguf", "m-q4_k_m"),
        ("hf://lime/m-GGUF:F32", IN_TWO[0], "m-F32"),
        ("hf://lime/m-GGUF/m-Q8_0.gguf", "m-Q8_0.gguf", "m-Q8_0"),
        ("hf://lime/m-GGUF/F32/m-F32-00002-of-00002.gguf", IN_TWO[0], "m-F32-00002-of-00002"),
        (&plain, "m-Q8_0.gguf", "m-Q8_0"),
        (&parts, IN_TWO[0], "m-F32-00002-of-00002"),
    ] {
        let (_root, store) = hub.store();
        let source = source(text);
        is_of(&store, &source, &hub.path(file));
        let found = store.find(&source).unwrap().unwrap();
        assert_eq!(found.manifest().name, name);
        let commit = if text.starts_with("hf:") { COMMIT } else { "" };
        assert_eq!(found.manifest().revision, commit);
        // What is there can be told, compared and removed as any other.
        assert_eq!(store.models().unwrap().len(), 1);
        assert!(store.verify_card(found.path(), false).unwrap().damaged.is_empty());
        drop(found);
        assert_eq!(store.prune(&|_| true, false).unwrap().removed.len(), 1);
    }
}

#[test]
fn a_device_fetches_its_tensors_only_and_the_header_once() {
    let hub = Hub::start();
    let (_root, store) = hub.store();
    let source = source("hf://lime/m-GGUF:F32");
    let model = store.model(&source).unwrap();
    let headers: u64 = model.folder().weight_files().len() as u64 * (64 << 10);
    let sent = |hub: &Hub| hub.server.seen().iter().map(|seen| seen.sent).sum::<u64>();
    assert!(sent(&hub) <= headers, "a header takes a look or two");

    let blocks = [Block::Attention(lime_plan::LayerIndex(1)), Block::Mlp(lime_plan::LayerIndex(0))];
    ensure(&model, &blocks).unwrap();
    let original = ModelFolder::open(hub.path(IN_TWO[0])).unwrap();
    let wanted: u64 = blocks.iter().flat_map(|block| original.tensors(*block).unwrap()).map(|it| it.bytes).sum();
    let seen = hub.server.seen();
    assert_eq!(seen.iter().map(|seen| seen.sent).sum::<u64>(), wanted);
    // Neither the listing nor a header: what was found is written down.
    assert!(seen.iter().all(|seen| seen.range.is_some()), "{seen:?}");

    // A model that is there is asked about, and not read.
    let again = store.model(&source).unwrap();
    assert_eq!(again.key(), model.key());
    let seen = hub.server.seen();
    let read = seen.iter().filter(|seen| seen.method == "GET" && !seen.path.contains("/api/")).count();
    assert_eq!(read, 0, "{seen:?}");
    hub.server.change();
    assert_ne!(store.model(&source).unwrap().key(), model.key());
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let hub = Hub::start();
    let (_root, store) = hub.store();
    let offered = "Q8_0 (";
    for (text, says) in [
        // No quantization at all: what there is, with its size.
        ("hf://lime/m-GGUF", vec!["config.json", "hf://ORG/NAME:QUANT", "Q4_K_M (", offered, "KiB)"]),
        ("hf://lime/m-GGUF:Q5_K_M", vec!["quantized as Q5_K_M", offered, "F32 (", "Q2_K (1 of its files are missing)"]),
        ("hf://lime/m-GGUF:Q2_K", vec!["m-Q2_K-00001-of-00002.gguf, and 1 of the files"]),
        ("hf://lime/m-GGUF/none.gguf", vec!["none.gguf is not in", offered]),
        ("hf://lime/m-GGUF/m-Q2_K-00001-of-00002.gguf", vec!["m-Q2_K-00002-of-00002.gguf is not in", "2 files"]),
    ] {
        let fault = store.model(&source(text)).unwrap_err();
        assert!(matches!(fault, StoreError::NotThere { .. }), "{text}: {fault:?}");
        let told = fault.to_string();
        assert!(says.iter().all(|says| told.contains(says)), "{text}: {told}");
    }
    let fault = store.model(&source("hf://lime/none:Q8_0")).unwrap_err().to_string();
    assert!(fault.contains("no such model"), "{fault}");
    fs::write(hub.path("m2-Q8_0.gguf"), Made::llama().bytes()).unwrap();
    let fault = store.model(&source("hf://lime/m-GGUF:Q8_0")).unwrap_err().to_string();
    assert!(fault.contains("m-Q8_0.gguf, m2-Q8_0.gguf"), "{fault}");
}

#[test]
fn a_server_that_lists_nothing_gives_a_file_by_its_name() {
    let hub = Hub::start();
    let (_root, store) = hub.store();
    hub.server.next(Strikes::Anything, [Fault::Status(404, "", "")]);
    let fault = store.model(&source("hf://lime/m-GGUF:Q8_0")).unwrap_err().to_string();
    assert!(fault.contains("name the file"), "{fault}");
    is_of(&store, &source("hf://lime/m-GGUF/m-Q8_0.gguf"), &hub.path("m-Q8_0.gguf"));
}

#[test]
fn damaged_files_at_a_server_are_a_sentence() {
    let hub = Hub::start();
    let whole = Made::llama().bytes();
    for (bytes, says) in [
        (&b"<html>not found</html>, whatever else is there"[..], "not a GGUF file"),
        (&whole[..500], "cut short"),
        (&whole[..whole.len() - 64], "cut short"),
        (&[], "cut short"),
    ] {
        fs::write(hub.path("m-Q8_0.gguf"), bytes).unwrap();
        let (_root, store) = hub.store();
        for text in ["hf://lime/m-GGUF:Q8_0", &format!("{}/plain/m-GGUF/m-Q8_0.gguf", hub.server.url())] {
            let fault = store.model(&source(text)).unwrap_err().to_string();
            assert!(fault.contains(says) && fault.contains("m-Q8_0.gguf"), "{says}: {fault}");
        }
    }
}

#[test]
fn a_small_file_that_is_damaged_is_made_again() {
    let hub = Hub::start();
    let (_root, store) = hub.store();
    let source = source("hf://lime/m-GGUF:F32");
    let (config, header) = {
        let model = store.model(&source).unwrap();
        let folder = model.folder().path().to_owned();
        (folder.join("config.json"), folder.join("m-F32-00002-of-00002.gguf.header"))
    };
    for path in [config, header] {
        let right = fs::read(&path).unwrap();
        fs::write(&path, b"{}").unwrap();
        let model = store.model(&source).unwrap();
        assert_eq!(model.mended_files().len(), 1);
        assert_eq!(fs::read(&path).unwrap(), right);
    }
}
