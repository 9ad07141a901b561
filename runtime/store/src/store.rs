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

use lime_plan::Bytes;

use crate::{
    card,
    card_check::{self, CardState},
    connect::connect,
    disk,
    error::StoreError,
    http::RemoteOptions,
    manifest::Manifest,
    model::{BLOCKS, CARD, IN_USE, StoredModel},
    origin::Origin,
    source::Source,
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
        fs::create_dir_all(&models).map_err(StoreError::writing("create", &models))?;
        Ok(Self { root, remote: RemoteOptions::from_env() })
    }

    /// Opens the store in the folder `root` if there is one.
    pub fn existing(root: impl Into<PathBuf>) -> Option<Self> {
        let root = root.into();
        root.join(MODELS).is_dir().then(|| Self { root, remote: RemoteOptions::from_env() })
    }

    /// Sees whether models can be written here, before anything is begun that would need it.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        self.in_scratch(|_| Ok(()))
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
        let origin = connect(source, &self.remote)?;
        let revision = origin.revision()?;
        if let Some(path) = self.known(source, &revision, &*origin)? {
            let manifest = Manifest::read(&path)?;
            let damaged = recorded_faults(&path, &manifest)?;
            if !damaged.is_empty() {
                self.in_scratch(|scratch| mend(&path, &manifest, &damaged, &*origin, scratch))?;
            }
            return Ok(StoredModel::open(path, self.remote.clone())?.with_mended(damaged));
        }
        let path = self.in_scratch(|unfinished| {
            let card = unfinished.join(CARD);
            let files = card::fetch(&*origin, &source.to_string(), &card)?;
            let manifest = Manifest::new(source, revision, files).found_at(origin.found());
            let manifest = manifest.with_card(card_check::digests(&card)?);
            let path = self.publish(&manifest, unfinished)?;
            let damaged = recorded_faults(&path, &manifest)?;
            if !damaged.is_empty() {
                mend(&path, &manifest, &damaged, &*origin, unfinished)?;
            }
            Ok(path)
        })?;
        StoredModel::open(path, self.remote.clone())
    }

    /// Lets `work` fill a folder of its own, with a folder for small files in it, that goes again afterwards.
    fn in_scratch<T>(&self, work: impl FnOnce(&Path) -> Result<T, StoreError>) -> Result<T, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let scratch = self.root.join(MODELS).join(format!("{UNFINISHED}{}-{number}", process::id()));
        let made = fs::create_dir_all(scratch.join(CARD)).map_err(StoreError::writing("create", &scratch));
        let done = made.and_then(|()| work(&scratch));
        // Gone already where it became the model's folder.
        let _ = fs::remove_dir_all(&scratch);
        done
    }

    /// Compares the small files of the model in `path` with the digests that its manifest has; with `mend`, fetches those again that
    /// differ. A model of an older version has no digests: they are taken from its source, which then must be there.
    ///
    /// # Errors
    /// When the manifest is damaged, or what is damaged cannot be fetched.
    pub fn verify_card(&self, path: &Path, repair: bool) -> Result<CardState, StoreError> {
        let manifest = Manifest::read(path)?;
        if manifest.card.is_empty() {
            return Ok(self.record_card(path, manifest, repair));
        }
        let (files, damaged) = (manifest.card.len(), recorded_faults(path, &manifest)?);
        if repair && !damaged.is_empty() {
            let origin = connect(&manifest.source()?, &self.remote)?;
            self.in_scratch(|scratch| mend(path, &manifest, &damaged, &*origin, scratch))?;
        }
        Ok(CardState { files, damaged, unrecorded: None })
    }

    /// Fetches the small files of a model without digests once more, compares, and records their digests.
    fn record_card(&self, path: &Path, manifest: Manifest, repair: bool) -> CardState {
        let recorded = self.in_scratch(|scratch| {
            let (origin, card) = (connect(&manifest.source()?, &self.remote)?, scratch.join(CARD));
            let names: Vec<String> = card::names(&manifest.files).collect();
            card::fetch_again(&*origin, &manifest.files, names.iter().map(String::as_str), &card)?;
            let manifest = manifest.with_card(card_check::digests(&card)?);
            let damaged = recorded_faults(path, &manifest)?;
            if repair {
                mend(path, &manifest, &damaged, &*origin, scratch)?;
            }
            // Whoever has the model open holds a lock on the manifest that is there: it stays until nobody does.
            let in_use = File::open(path.join(IN_USE)).is_ok_and(|lock| lock.try_lock().is_err());
            if !in_use && (repair || damaged.is_empty()) {
                manifest.replace(path, scratch)?;
            }
            Ok(CardState { files: manifest.card.len(), damaged, unrecorded: None })
        });
        recorded.unwrap_or_else(|fault| CardState { unrecorded: Some(fault.to_string()), ..CardState::default() })
    }

    /// Opens the model in the folder `path` of this store.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open_at(&self, path: &Path) -> Result<StoredModel, StoreError> {
        StoredModel::open(path.to_owned(), self.remote.clone())
    }

    /// The folder of a model of which the source describes every file as it did when it was brought here.
    fn known(&self, source: &Source, revision: &str, origin: &dyn Origin) -> Result<Option<PathBuf>, StoreError> {
        let here = self.folders()?.into_iter().filter_map(|path| Some((Manifest::read(&path).ok()?, path)));
        for (manifest, path) in here.filter(|(manifest, _)| manifest.is_at(source, revision)) {
            let described = card::describe(origin, &manifest.files)?;
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
        let Some((_, path)) = newest else { return Ok(None) };
        // Nobody is asked: what is damaged stays so, and must not be served.
        if let Some((file, reason)) = recorded_faults(&path, &Manifest::read(&path)?)?.into_iter().next() {
            let reason = format!("{reason}: `lime store verify --repair` fetches it again when its source is there");
            return Err(StoreError::Damaged { path: path.join(CARD).join(file), reason });
        }
        StoredModel::open(path, self.remote.clone()).map(Some)
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

    /// Makes the filled folder the model's, unless another process was faster. Where the model is there and only its manifest is damaged,
    /// that alone is written anew.
    fn publish(&self, manifest: &Manifest, unfinished: &Path) -> Result<PathBuf, StoreError> {
        let models = self.root.join(MODELS);
        let path = models.join(manifest.key());
        if path.join(IN_USE).is_file() {
            match Manifest::read(&path) {
                Ok(_) => {}
                Err(fault @ StoreError::OtherForm { .. }) => return Err(fault),
                Err(fault) => {
                    tracing::warn!(%fault, "the manifest is written anew");
                    manifest.replace(&path, unfinished)?;
                }
            }
            return Ok(path);
        }
        fs::create_dir(unfinished.join(BLOCKS)).map_err(StoreError::writing("create", unfinished))?;
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

/// Which small files of the model in `path` are not as its manifest says.
fn recorded_faults(path: &Path, manifest: &Manifest) -> Result<Vec<(String, String)>, StoreError> {
    if manifest.card.is_empty() { Ok(Vec::new()) } else { card_check::compare(&path.join(CARD), &manifest.card) }
}

/// Fetches the `damaged` small files of a model again, by way of `scratch`, and removes those that are none of its.
fn mend(
    path: &Path,
    manifest: &Manifest,
    damaged: &[(String, String)],
    origin: &dyn Origin,
    scratch: &Path,
) -> Result<(), StoreError> {
    let (fetched, card) = (scratch.join(CARD), path.join(CARD));
    card::fetch_again(origin, &manifest.files, damaged.iter().map(|(name, _)| name.as_str()), &fetched)?;
    let right = card_check::digests(&fetched)?;
    for (name, reason) in damaged {
        tracing::warn!(file = %card.join(name).display(), reason, "damaged: fetched again");
        let Some(recorded) = manifest.card.get(name) else {
            fs::remove_file(card.join(name)).map_err(StoreError::writing("remove", card.join(name)))?;
            continue;
        };
        if right.get(name) != Some(recorded) {
            let reason =
                "its source gives other bytes than the manifest has a digest of: remove the folder, and pull again";
            return Err(StoreError::Damaged { path: card.join(name), reason: reason.into() });
        }
        fs::rename(fetched.join(name), card.join(name)).map_err(StoreError::writing("write", card.join(name)))?;
    }
    disk::sync_folder(&card)
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
