//! YAML files as people write them: several documents, every fault with file, line, field and fix.

mod fault;
mod node;
mod schema;

pub(crate) use fault::{Fault, Faults};
pub(crate) use node::Node;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// No file that a person writes is larger.
const LONGEST_DOCUMENT: u64 = 16 << 20;

/// The text of a file that a person names, which may come through a pipe.
pub(crate) fn read_text(path: &Path, limit: u64) -> std::io::Result<String> {
    let bytes = lime_files::read_small_or_pipe(path, limit)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// One document of a file, its structure known and nothing else.
#[derive(Debug)]
pub(crate) struct Document {
    file: PathBuf,
    root: Node,
}

impl Document {
    /// Every document of the file at `path` that is not empty.
    pub(crate) fn read_all(path: &Path) -> Result<Vec<Self>, Faults> {
        let text = read_text(path, LONGEST_DOCUMENT).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "there is no such file: check the path",
                std::io::ErrorKind::InvalidData => "this is not text in UTF-8: is it a YAML file?",
                std::io::ErrorKind::IsADirectory => "this is a folder: name a file in it",
                _ => return Faults::one(path, 0, "", &format!("cannot be read: {error}")),
            };
            Faults::one(path, 0, "", hint)
        })?;
        Self::parse_all(path, &text)
    }

    /// Every document of `text`, which came from `path`.
    pub(crate) fn parse_all(path: &Path, text: &str) -> Result<Vec<Self>, Faults> {
        let nodes = node::parse(text)
            .map_err(|(line, message)| Faults::one(path, line, "", &format!("not readable as YAML: {message}")))?;
        let file = path.to_owned();
        Ok(nodes.into_iter().map(|root| Self { file: file.clone(), root }).collect())
    }

    /// What `kind` says, or nothing.
    pub(crate) fn kind(&self) -> Option<&str> {
        self.root.get("kind").and_then(Node::text)
    }

    /// Where it came from.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// What it says, without lines.
    pub(crate) fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// A fault of this document at `field`, with the line of the deepest part of it that is there.
    pub(crate) fn fault(&self, field: &str, message: &str) -> Fault {
        Fault { file: self.file.clone(), line: self.root.line_of(field), field: field.into(), message: message.into() }
    }

    /// Checks the document against an OpenAPI schema, all faults at once, and reads it as `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self, schema: &Value) -> Result<T, Faults> {
        let api_version = self.root.get("apiVersion").and_then(Node::text);
        if api_version != Some(lime_api::API_VERSION) {
            let message = format!("must be {}", lime_api::API_VERSION);
            return Err(self.fault("apiVersion", &message).into());
        }
        let faults = schema::check(&self.root, schema);
        if !faults.is_empty() {
            let faults = faults.into_iter().map(|fault| Fault {
                file: self.file.clone(),
                line: fault.line,
                field: fault.field,
                message: fault.message,
            });
            return Err(Faults(faults.collect()));
        }
        serde_json::from_value(self.root.to_json()).map_err(|error| self.fault("", &error.to_string()).into())
    }
}

#[cfg(test)]
mod tests;
