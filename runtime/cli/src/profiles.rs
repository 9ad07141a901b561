//! Fleets of other machines: a fleet's file, or a folder with a profile of each node.

use std::path::{Path, PathBuf};

use lime_plan::{Bytes, Fleet, FleetFile, NodeEntry, NodeProfile, PairEntry};
use serde::Deserialize;

use crate::document::{Document, Faults};

/// Most files of a folder that are read.
const MOST_FILES: usize = 4096;

/// Longest file that is read.
const LONGEST: u64 = 16 << 20;

/// What `lime profile -o json` writes, as far as the planner reads it.
#[derive(Debug, Deserialize)]
struct ProfileFile {
    node: NodeEntry,
    #[serde(default)]
    links: Vec<PairEntry>,
    #[serde(default, rename = "measured")]
    _measured: serde_json::Value,
}

/// Reads the fleet at `path`; `reserve` is left to others on every node.
///
/// # Errors
/// Files that cannot be read, and everything that is wrong with what they say.
pub(crate) fn read(path: &Path, reserve: Bytes) -> anyhow::Result<Fleet> {
    let mut whole = FleetFile::default();
    let files = if path.is_dir() { files(path)? } else { vec![path.to_owned()] };
    for file in &files {
        add(&mut whole, file)?;
    }
    if whole.nodes.is_empty() {
        let hint = "holds no nodes: write a fleet as in manifests/fleets/, or one file for each node with `lime profile -o json`";
        return Err(Faults::one(path, 0, "", hint).into());
    }
    let fleet = whole.check().map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.faults.join("\n  ")))?;
    let less = |node: &NodeProfile| NodeProfile { memory: node.memory.saturating_sub(reserve), ..node.clone() };
    Ok(fleet.map_nodes(less))
}

/// The YAML and JSON files of a folder by name.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let fault = |error: std::io::Error| Faults::one(folder, 0, "", &format!("cannot be read: {error}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let known =
            path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|known| extension == *known));
        if known && path.is_file() {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            let message = format!("holds more than {MOST_FILES} profiles: name a folder with this fleet's alone");
            return Err(Faults::one(folder, 0, "", &message).into());
        }
    }
    files.sort();
    Ok(files)
}

/// Adds what a file says: a whole fleet, links alone, or one node with its links.
fn add(whole: &mut FleetFile, file: &Path) -> Result<(), Faults> {
    if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > LONGEST) {
        return Err(Faults::one(file, 0, "", "is too long for a profile: is this another file?"));
    }
    for document in Document::read_all(file)? {
        if let Some(kind) = document.kind() {
            let elsewhere = match kind {
                "LocalFleet" => ": devices that this machine plays are named with --fleet",
                "LimeDeployment" => ": the wish is named with -f",
                _ => "",
            };
            let message = format!(
                "expected a fleet (nodes and links, as in manifests/fleets/) or a profile of `lime profile -o json`, found a \
                 {kind}{elsewhere}"
            );
            return Err(document.fault("kind", &message).into());
        }
        let (json, fault) = (document.to_json(), |error: serde_json::Error| document.fault("", &error.to_string()));
        if json.get("node").is_some() {
            let profile: ProfileFile = serde_json::from_value(json).map_err(fault)?;
            whole.nodes.push(profile.node);
            whole.links.pairs.extend(profile.links);
        } else {
            let fleet: FleetFile = serde_json::from_value(json).map_err(fault)?;
            whole.description = whole.description.take().or(fleet.description);
            whole.nodes.extend(fleet.nodes);
            whole.links.pairs.extend(fleet.links.pairs);
            if let (Some(_), Some(_)) = (&whole.links.default, &fleet.links.default) {
                return Err(document.fault("links.default", "a second default link: give it in one file").into());
            }
            whole.links.default = whole.links.default.take().or(fleet.links.default);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
