//! The seam between the store and the places that models come from.

use serde::{Deserialize, Serialize};

use crate::{
    RemoteOptions, Source, StoreError, file_digest::PromisedDigest, gguf::GgufFile, http::HttpOrigin,
    local::LocalFolder,
};

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

    /// The names of its weights files, where the source itself says which they are.
    fn weights(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// The digest that the source itself gives of a file that was described, whole.
    fn promised(&self, name: &str) -> Option<PromisedDigest> {
        let _ = name;
        None
    }

    /// The names of its files, where it can list them.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Hands exactly the `bytes` bytes of `file` from `from` on to `sink`.
    ///
    /// # Errors
    /// Among others [`StoreError::Changed`], where the file is not the one that was described.
    fn read(&self, file: &OriginFile, from: u64, bytes: u64, sink: Sink<'_>) -> Result<(), StoreError>;
}

/// Reaches for a source. Nothing is asked of it yet.
pub(crate) fn connect(source: &Source, remote: &RemoteOptions) -> Result<Box<dyn Origin>, StoreError> {
    Ok(match source {
        Source::Folder(path) => Box::new(LocalFolder(path.clone())),
        Source::Gguf(path) => Box::new(GgufFile::new(path)?),
        Source::Hub { repository, revision } => Box::new(HttpOrigin::hub(repository, revision, remote.clone())?),
        Source::Http(url) => Box::new(HttpOrigin::folder(url, remote.clone())?),
    })
}
