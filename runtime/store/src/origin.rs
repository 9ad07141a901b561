//! The seam between the store and the places that models come from.

use serde::{Deserialize, Serialize};

use crate::{error::StoreError, file_digest::PromisedDigest, offers::Listed};

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
