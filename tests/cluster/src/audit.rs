//! The API server's own list of what was written, by whom.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

/// The audit log of the cluster that was started for tests, from a moment on.
#[derive(Clone, Debug)]
pub struct Audit {
    file: PathBuf,
    from: u64,
}

/// A kind of write: who, how, and to what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// The account, such as `system:serviceaccount:lime-system:lime-operator`.
    pub by: String,
    /// `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// The resource, with its subresource: `limedeployments/status`.
    pub what: String,
    /// The object's name.
    pub name: String,
}

impl Audit {
    /// What is written from now on; `None` where the cluster keeps no such list (one that `KUBECONFIG` names).
    ///
    /// # Errors
    /// If the list cannot be read.
    pub fn from_now() -> anyhow::Result<Option<Self>> {
        let Some(file) = std::env::var_os("LIME_TEST_AUDIT").map(PathBuf::from) else { return Ok(None) };
        let from = file.metadata().with_context(|| file.display().to_string())?.len();
        Ok(Some(Self { file, from }))
    }

    /// The writes since then, counted; refused ones too.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub fn writes(&self) -> anyhow::Result<BTreeMap<Write, usize>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut found = BTreeMap::new();
        // The last line may be half written yet.
        for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let subresource = object["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
            let write = Write {
                by: word(&event["user"]["username"]),
                verb: word(&event["verb"]),
                what: word(&object["resource"]) + &subresource,
                name: word(&object["name"]),
            };
            *found.entry(write).or_default() += 1;
        }
        Ok(found)
    }
}
