//! The store: a folder of models.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use lime_planner::Bytes;

use crate::{
    Manifest, RemoteOptions, Source, StoreError, StoredModel, card, disk,
    model::{BLOCKS, CARD, IN_USE},
    origin::{Origin, connect},
};

const MODELS: &str = "models";
/// Begins the names of folders that are still being filled.
const UNFINISHED: &str = ".unfinished-";

/// The store: a folder of models on this device's disk. Several processes may use one at the same time.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    remote: RemoteOptions,
}

/// A model's folder, and the model or why it cannot be read.
pub type Listed = (PathBuf, Result<StoredModel, StoreError>);

/// What [`Store::prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The models, or what was left of a pull.
    pub removed: Vec<PathBuf>,
    /// What they took.
    pub bytes: Bytes,
    /// Models that should go and are in use.
    pub in_use: Vec<PathBuf>,
}

impl Store {
    /// Opens the store in the folder `root`, which is made where there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let models = root.join(MODELS);
        fs::create_dir_all(&models).map_err(StoreError::io("create", &models))?;
        Ok(Self { root, remote: RemoteOptions::from_env() })
    }

    /// The same store, asking servers so.
    #[must_use]
    pub fn with_remote(self, remote: RemoteOptions) -> Self {
        Self { remote, ..self }
    }

    /// Where the store is unless someone says otherwise: `LIME_STORE`, or `lime` in the user's cache folder.
    pub fn default_root() -> PathBuf {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        folder("LIME_STORE")
            .or_else(|| folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("lime")))
            .or_else(|| folder("HOME").map(|path| path.join(".cache/lime")))
            .unwrap_or_else(|| PathBuf::from("lime-store"))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The model that `source` gives now: asks the source, and brings its small files into the store where they are not there
    /// as it describes them.
    ///
    /// # Errors
    /// What the source refused, or what is wrong with the model's files.
    pub fn model(&self, source: &Source) -> Result<StoredModel, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let origin = connect(source, &self.remote)?;
        let revision = origin.revision()?;
        if let Some(path) = self.known(source, &revision, &*origin)? {
            return StoredModel::open(path, self.remote.clone());
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.root.join(MODELS).join(format!("{UNFINISHED}{}-{number}", process::id()));
        let made = fs::create_dir_all(unfinished.join(CARD)).map_err(StoreError::io("create", &unfinished));
        let found = made.and_then(|()| {
            let files = card::fetch(&*origin, &source.to_string(), &unfinished.join(CARD))?;
            self.publish(&Manifest::new(source, revision, files), &unfinished)
        });
        // Gone already where it became the model's folder.
        let _ = fs::remove_dir_all(&unfinished);
        StoredModel::open(found?, self.remote.clone())
    }

    /// The folder of a model of which the source describes every file as it did when it was brought here.
    fn known(&self, source: &Source, revision: &str, origin: &dyn Origin) -> Result<Option<PathBuf>, StoreError> {
        let here = self.folders()?.into_iter().filter_map(|path| Some((Manifest::read(&path).ok()?, path)));
        for (manifest, path) in here.filter(|(manifest, _)| manifest.is_at(source, revision)) {
            let described = card::describe(origin, &path.join(CARD), &manifest.files)?;
            let now = described.map(|files| Manifest::new(source, revision.to_owned(), files));
            if now.is_some_and(|now| now.files == manifest.files) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// As [`Store::model`]; where a server cannot be asked now, the model that was brought here last, with the reason.
    ///
    /// # Errors
    /// As [`Store::model`], when nothing of the source is here.
    pub fn model_or_last(&self, source: &Source) -> Result<(StoredModel, Option<StoreError>), StoreError> {
        match self.model(source) {
            Ok(model) => Ok((model, None)),
            Err(fault) if source.folder().is_none() => match self.find(source) {
                Ok(Some(model)) => Ok((model, Some(fault))),
                Ok(None) | Err(_) => Err(fault),
            },
            Err(fault) => Err(fault),
        }
    }

    /// The model of `source` that was brought here last, without asking the source.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn find(&self, source: &Source) -> Result<Option<StoredModel>, StoreError> {
        let mut newest: Option<(SystemTime, PathBuf)> = None;
        for path in self.folders()? {
            let Ok(manifest) = Manifest::read(&path) else { continue };
            let made = fs::metadata(path.join(CARD)).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if manifest.is_of(source) && newest.as_ref().is_none_or(|(time, _)| made > *time) {
                newest = Some((made, path));
            }
        }
        newest.map(|(_, path)| StoredModel::open(path, self.remote.clone())).transpose()
    }

    /// Every model's folder with the model, or with why it cannot be read.
    ///
    /// # Errors
    /// When the store's folder cannot be listed.
    pub fn models(&self) -> Result<Vec<Listed>, StoreError> {
        let open = |path: PathBuf| (path.clone(), StoredModel::open(path, self.remote.clone()));
        Ok(self.folders()?.into_iter().map(open).collect())
    }

    /// Removes the models that `goes` picks, and whatever interrupted pulls of others left behind that no pull will take up.
    /// Models that a process has open stay. With `dry`, only says what would go.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn prune(&self, goes: &dyn Fn(&Path) -> bool, dry: bool) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let folder = self.root.join(MODELS);
        let entries = fs::read_dir(&folder).map_err(StoreError::io("list", &folder))?;
        let abandoned = entries.flatten().map(|entry| entry.path()).filter(|path| is_abandoned(path));
        let chosen = self.folders()?.into_iter().filter(|path| goes(path));
        for path in abandoned.chain(chosen) {
            let lock = File::open(path.join(IN_USE));
            if lock.as_ref().is_ok_and(|lock| lock.try_lock().is_err()) {
                pruned.in_use.push(path);
                continue;
            }
            pruned.bytes += Bytes(bytes_under(&path));
            if !dry {
                // The manifest first: what is left of a removal that was cut short is no model.
                let _ = fs::remove_file(path.join(IN_USE));
                fs::remove_dir_all(&path).map_err(StoreError::io("remove", &path))?;
            }
            pruned.removed.push(path);
        }
        Ok(pruned)
    }

    /// Makes the filled folder the model's, unless another process was faster.
    fn publish(&self, manifest: &Manifest, unfinished: &Path) -> Result<PathBuf, StoreError> {
        let models = self.root.join(MODELS);
        let path = models.join(manifest.key());
        if path.join(IN_USE).is_file() {
            return Ok(path);
        }
        fs::create_dir(unfinished.join(BLOCKS)).map_err(StoreError::io("create", unfinished))?;
        manifest.write(unfinished)?;
        disk::sync_folder(&unfinished.join(CARD))?;
        disk::sync_folder(unfinished)?;
        match fs::rename(unfinished, &path) {
            Ok(()) => disk::sync_folder(&models)?,
            Err(fault) if matches!(fault.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            Err(fault) => return Err(StoreError::io("name", &path)(fault)),
        }
        Ok(path)
    }

    fn folders(&self) -> Result<Vec<PathBuf>, StoreError> {
        let models = self.root.join(MODELS);
        let entries = fs::read_dir(&models).map_err(StoreError::io("list", &models))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let mut folders: Vec<PathBuf> = paths.filter(|path| path.join(IN_USE).is_file()).collect();
        folders.retain(|path| !is_unfinished(path));
        folders.sort();
        Ok(folders)
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

/// An unfinished folder of a process that is no more, or a model's folder without its manifest.
fn is_abandoned(path: &Path) -> bool {
    if !is_unfinished(path) {
        return path.is_dir() && !path.join(IN_USE).exists();
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let owner = name.trim_start_matches(UNFINISHED).split('-').next().unwrap_or_default().to_owned();
    !Path::new("/proc").join(owner).exists()
}

fn bytes_under(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return disk::allocated(path) };
    entries.flatten().map(|entry| bytes_under(&entry.path())).sum()
}
