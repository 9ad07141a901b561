//! The small files of a model in the store: compared like its blocks, mended, never served damaged.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use lime_store::{Source, Store, StoreError, StoredModel};

use crate::common::{flip, source};

/// A model whose source may be changed, in a store.
struct Scene {
    root: tempfile::TempDir,
    store: Store,
    source: Source,
}

impl Scene {
    fn new(name: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let from = root.path().join("source");
        fs::create_dir(&from).unwrap();
        for file in fs::read_dir(source(name).folder().unwrap()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), from.join(file.file_name())).unwrap();
        }
        let store = Store::open(root.path().join("store")).unwrap();
        Self { root, store, source: Source::Folder(from) }
    }

    fn model(&self) -> StoredModel {
        self.store.model(&self.source).unwrap()
    }

    /// Takes the source away, or brings it back.
    fn turn(&self) {
        let (here, away) = (self.root.path().join("source"), self.root.path().join("away"));
        let (from, to) = if here.exists() { (here, away) } else { (away, here) };
        fs::rename(from, to).unwrap();
    }
}

fn card_files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path.join("card")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn damage_of_any_small_file_is_found_and_mended() {
    let scene = Scene::new("bard-2m");
    let path = scene.model().path().to_owned();
    let files = card_files(&path);
    assert!(files.iter().any(|file| file.ends_with("model.safetensors.header")) && files.len() >= 3, "{files:?}");
    let verify = |repair| scene.store.verify_card(&path, repair).unwrap();
    assert_eq!((verify(false).files, verify(false).damaged), (files.len(), vec![]));
    for file in &files {
        let (name, whole) = (file.file_name().unwrap().to_str().unwrap(), fs::read(file).unwrap());
        let damages: [(&str, &dyn Fn()); 3] = [
            ("SHA-256", &|| flip(file, whole.len() as u64 / 2)),
            ("bytes", &|| fs::write(file, &whole[..whole.len().min(100) - 1]).unwrap()),
            ("cannot be read", &|| fs::remove_file(file).unwrap()),
        ];
        for (says, damage) in damages {
            damage();
            let found = verify(false).damaged;
            assert!(found.len() == 1 && found[0].0 == name && found[0].1.contains(says), "{name}: {found:?}");
            assert!(scene.store.find(&scene.source).is_err(), "{name} is served damaged");
            assert_eq!(verify(true).damaged, found);
            assert!(fs::read(file).unwrap() == whole && verify(false).damaged.is_empty(), "{name}");
            // Whoever opens it while its source is there mends it by the way.
            damage();
            assert_eq!(scene.model().mended_files(), found, "{name}");
            assert!(fs::read(file).unwrap() == whole, "{name}");
        }
    }
    let stray = path.join("card/chat_template.jinja");
    fs::write(&stray, "{{ 'pwned' }}").unwrap();
    assert!(verify(false).damaged[0].1.contains("not one of the model's files"));
    verify(true);
    assert!(!stray.exists() && verify(false).damaged.is_empty());
}

#[test]
fn without_its_source_what_is_damaged_stays_and_is_named() {
    let scene = Scene::new("bard-2m");
    let path = scene.model().path().to_owned();
    flip(&path.join("card/tokenizer.json"), 50);
    scene.turn();
    let fault = scene.store.verify_card(&path, true).unwrap_err().to_string();
    assert!(fault.contains("tokenizer.json"), "{fault}");
    let fault = scene.store.find(&scene.source).unwrap_err();
    assert!(matches!(&fault, StoreError::Damaged { path, .. } if path.ends_with("tokenizer.json")), "{fault}");
    scene.turn();
    assert_eq!(scene.store.verify_card(&path, true).unwrap().damaged.len(), 1);
    assert!(scene.store.find(&scene.source).unwrap().is_some());
}

/// As versions before this one wrote it.
fn make_old(path: &Path) {
    let file = path.join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    manifest["version"] = 1.into();
    manifest.as_object_mut().unwrap().remove("card").unwrap();
    fs::write(&file, manifest.to_string()).unwrap();
}

#[test]
fn a_model_of_an_older_version_gets_its_digests_from_its_source() {
    let scene = Scene::new("bard-2m");
    let path = scene.model().path().to_owned();
    make_old(&path);
    scene.turn();
    let state = scene.store.verify_card(&path, false).unwrap();
    assert!(state.files == 0 && state.unrecorded.is_some(), "{state:?}");
    scene.turn();
    flip(&path.join("card/tokenizer.json"), 50);
    let state = scene.store.verify_card(&path, false).unwrap();
    assert!(state.damaged.len() == 1 && state.unrecorded.is_none(), "{state:?}");
    // Somebody has it open: it is mended, and the manifest waits.
    let open = scene.store.open_at(&path).unwrap();
    assert_eq!(scene.store.verify_card(&path, true).unwrap().damaged.len(), 1);
    assert_eq!(scene.store.open_at(&path).unwrap().manifest().version, 1);
    drop(open);
    assert!(scene.store.verify_card(&path, false).unwrap().damaged.is_empty());
    let model = scene.store.open_at(&path).unwrap();
    assert_eq!((model.manifest().version, model.manifest().card.len()), (2, card_files(&path).len()));
    assert_eq!(scene.model().key(), model.key());
}

#[test]
fn a_manifest_that_is_not_what_its_folder_is_named_after_is_refused() {
    let scene = Scene::new("bard-2m");
    let path = scene.model().path().to_owned();
    let file = path.join("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    for (from, to) in [("\"bytes\": ", "\"bytes\": 1"), ("\"version\": 2", "\"version\": 3"), ("\"card\"", "\"carp\"")]
    {
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let fault = scene.store.open_at(&path).unwrap_err().to_string();
        assert!(fault.contains("manifest.json"), "{from}: {fault}");
        if from.contains("version") {
            assert!(matches!(scene.store.model(&scene.source), Err(StoreError::OtherForm { found: 3, .. })));
            continue;
        }
        // Whoever has the source writes it anew, and what was made of the model stays.
        let model = scene.model();
        assert_eq!((model.path(), fs::read_to_string(&file).unwrap()), (path.as_path(), text.clone()), "{from}");
    }
}

#[test]
fn a_pipe_or_a_device_in_a_models_folder_keeps_nobody_waiting() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let scene = Scene::new("bard-2m");
        let path = scene.source.folder().unwrap().join(name);
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (said, heard) = mpsc::channel();
        let (store, from) = (scene.store.clone(), scene.source.clone());
        thread::spawn(move || said.send(store.model(&from).map(drop).unwrap_err().to_string()));
        let fault = heard.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{name} is waited for"));
        assert!(
            fault.contains(name) && (fault.contains("not a file") || fault.contains("not a regular file")),
            "{fault}"
        );
    }
}

#[test]
fn a_store_that_cannot_be_written_to_says_how_to_have_another() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let fault = Store::open(file.join("store")).unwrap_err().to_string();
    assert!(fault.contains("LIME_STORE") && fault.contains("--store") && fault.contains("file/store"), "{fault}");
    assert!(Store::existing(root.path().join("none")).is_none());
    assert!(!root.path().join("none").exists(), "looking at a store made one");
}
