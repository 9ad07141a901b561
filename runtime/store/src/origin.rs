//! The seam between the store and the places that models come from.

use serde::{Deserialize, Serialize};

use std::path::Path;

use crate::{
    RemoteOptions, Source, StoreError,
    file_digest::PromisedDigest,
    gguf::GgufOrigin,
    http::HttpOrigin,
    local::LocalFolder,
    offers::{self, Listed, NoOffer, folder_and_name},
};
use lime_model::is_gguf;
use lime_plan::GgufPick;

/// A file as its source described it when the model was first met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginFile {
    /// Its name in the model's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Changes when the file does.
    pub etag: String,
}

/// Takes bytes as they come, in order.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), StoreError>;

/// A place that a model's files can be read from, in parts.
pub(crate) trait Origin: Send + Sync {
    /// What a revision stands for, such as the commit of a branch; empty where there are none.
    fn revision(&self) -> Result<String, StoreError>;

    /// Describes the file `name`; `None` where there is none.
    fn describe(&self, name: &str) -> Result<Option<OriginFile>, StoreError>;

    /// The same, where the files that it had before are known: what follows from one that is the same need not be read again.
    fn describe_knowing(&self, name: &str, known: &[OriginFile]) -> Result<Option<OriginFile>, StoreError> {
        let _ = known;
        self.describe(name)
    }

    /// The names of its weights files, where the source itself says which they are.
    fn weights(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// The digest that the source itself gives of a file that was described, whole.
    fn promised(&self, name: &str) -> Option<PromisedDigest> {
        let _ = name;
        None
    }

    /// All its files, where it can list them.
    ///
    /// # Errors
    /// Where it can and did not.
    fn listed(&self) -> Result<Vec<Listed>, StoreError> {
        Ok(Vec::new())
    }

    /// The path of the file that the model is in, where it had to be looked for.
    fn found(&self) -> Option<&str> {
        None
    }

    /// Hands exactly the `bytes` bytes of `file` from `from` on to `sink`.
    ///
    /// # Errors
    /// Among others [`StoreError::Changed`], where the file is not the one that was described.
    fn read(&self, file: &OriginFile, from: u64, bytes: u64, sink: Sink<'_>) -> Result<(), StoreError>;
}

/// Reaches for a source. Nothing is asked of it yet, but for what it has, where one of its files must be looked for.
pub(crate) fn connect(source: &Source, remote: &RemoteOptions) -> Result<Box<dyn Origin>, StoreError> {
    let gguf = |folder: Box<dyn Origin>, name: &str| GgufOrigin::new(folder, name, source.to_string());
    Ok(match source {
        Source::Folder(path) => Box::new(LocalFolder(path.clone())),
        Source::Gguf(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Box::new(gguf(Box::new(LocalFolder(folder.to_owned())), &name)?)
        }
        Source::Http(url) if is_gguf(Path::new(url)) => {
            let (folder, name) = folder_and_name(url);
            Box::new(gguf(Box::new(HttpOrigin::folder(folder, remote.clone())?), name)?)
        }
        Source::Http(url) => Box::new(HttpOrigin::folder(url, remote.clone())?),
        Source::Hub { repository, pick, revision } => {
            let hub = HttpOrigin::hub(repository, revision, remote.clone())?;
            match pick {
                None => Box::new(hub),
                Some(GgufPick::File(path)) => {
                    let (folder, name) = folder_and_name(path);
                    Box::new(gguf(Box::new(hub.within(folder, name)), name)?)
                }
                Some(GgufPick::Quant(quant)) => {
                    let path = looked_for(&hub, quant, source)?;
                    let (folder, name) = folder_and_name(&path);
                    Box::new(gguf(Box::new(hub.within(folder, name)), name)?.found_at(path.clone()))
                }
            }
        }
    })
}

/// The path of the model that `quant` means among what a repository has.
fn looked_for(hub: &HttpOrigin, quant: &str, source: &Source) -> Result<String, StoreError> {
    let offers = offers::offers(&hub.listed()?);
    let hint = match offers::pick(&offers, quant) {
        Ok(offer) => return Ok(offer.first.clone()),
        Err(NoOffer::None) if offers.is_empty() => "it has no GGUF files at all".to_owned(),
        Err(NoOffer::None) => format!("there are {}", offers::told(&offers)),
        Err(NoOffer::Many(files)) => {
            format!("more than one file is: {}; name the one, as hf://ORG/NAME/FILE.gguf", files.join(", "))
        }
        Err(NoOffer::Incomplete { first, missing }) => {
            format!("there is {first}, and {missing} of the files that belong to it are missing")
        }
    };
    Err(StoreError::NotThere { file: format!("a model quantized as {quant}"), model: source.to_string(), hint })
}
