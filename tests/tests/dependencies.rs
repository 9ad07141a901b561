//! What comes in from outside: licences, sources and bans are those of `deny.toml`, and nothing is asked for that nobody uses.
//! (`cargo deny check` reads the same file, where it is installed; building it would take longer than all of this.)

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    source: Option<String>,
    license: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    metadata: Option<PackageMetadata>,
}

/// What `cargo machete` reads: dependencies that only generated code names.
#[derive(Deserialize)]
struct PackageMetadata {
    #[serde(rename = "cargo-machete")]
    machete: Option<Machete>,
}

#[derive(Deserialize)]
struct Machete {
    ignored: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
    #[serde(default)]
    wrappers: Vec<String>,
}

fn root() -> &'static Path {
    // The manifest of these tests lies one folder below the workspace's.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent")
}

fn deny() -> Deny {
    toml::from_str(&fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap()
}

/// Everything that is compiled for one of the targets of `deny.toml`.
fn compiled() -> Vec<Metadata> {
    let metadata = |target: &String| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform", target])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
        let nodes: BTreeSet<&String> = metadata.resolve.nodes.iter().map(|node| &node.id).collect();
        metadata.packages.retain(|package| nodes.contains(&package.id));
        assert!(metadata.packages.len() > 100, "only {} packages", metadata.packages.len());
        metadata
    };
    deny().graph.targets.iter().map(metadata).collect()
}

#[test]
fn licences_are_those_that_are_allowed() {
    let allowed: Vec<spdx::Licensee> =
        deny().licenses.allow.iter().map(|name| spdx::Licensee::parse(name).unwrap()).collect();
    let mut refused = BTreeMap::new();
    for package in compiled().iter().flat_map(|metadata| &metadata.packages) {
        let license = package.license.as_deref().unwrap_or_default();
        // Older crates write MIT/Apache-2.0.
        let expression = spdx::Expression::parse_mode(license, spdx::ParseMode::LAX);
        let allows = |requirement: &spdx::LicenseReq| allowed.iter().any(|licensee| licensee.satisfies(requirement));
        if !expression.is_ok_and(|expression| expression.evaluate(allows)) {
            refused.insert(package.name.clone(), license.to_owned());
        }
    }
    assert!(refused.is_empty(), "deny.toml allows none of these: {refused:?}");
}

#[test]
fn everything_comes_from_the_registry_or_this_repository() {
    for package in compiled().iter().flat_map(|metadata| &metadata.packages) {
        match &package.source {
            Some(source) => {
                let known = source == "registry+https://github.com/rust-lang/crates.io-index";
                assert!(known, "{} comes from {source}", package.name);
            }
            None => assert!(package.manifest_path.starts_with(root()), "{} is a folder elsewhere", package.name),
        }
    }
}

#[test]
fn what_is_banned_is_linked_by_its_wrappers_alone() {
    for metadata in compiled() {
        let names: BTreeMap<&String, &String> =
            metadata.packages.iter().map(|package| (&package.id, &package.name)).collect();
        for ban in deny().bans.deny {
            for node in &metadata.resolve.nodes {
                let by = names[&node.id];
                let links = node.dependencies.iter().any(|dependency| *names[dependency] == ban.name);
                assert!(!links || ban.wrappers.contains(by), "{by} links {}: {}", ban.name, ban.reason);
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    let metadata = compiled().remove(0);
    let mut asked_for = BTreeSet::new();
    let mut unused = Vec::new();
    for package in metadata.packages.iter().filter(|package| metadata.workspace_members.contains(&package.id)) {
        let folder = package.manifest_path.parent().unwrap();
        let words = words_of(folder);
        for dependency in &package.dependencies {
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name);
            asked_for.insert(name.clone());
            let machete = package.metadata.as_ref().and_then(|metadata| metadata.machete.as_ref());
            let ignored = machete.is_some_and(|machete| machete.ignored.contains(name));
            if !ignored && !words.contains(&name.replace('-', "_")) {
                unused.push(format!("{name} of {}", package.name));
            }
        }
    }
    assert!(unused.is_empty(), "no source file names these dependencies: {unused:?}");
    let workspace: toml::Table = toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let shared = workspace["workspace"]["dependencies"].as_table().unwrap();
    let idle: Vec<&String> = shared.keys().filter(|name| !asked_for.contains(*name)).collect();
    assert!(idle.is_empty(), "no member of the workspace asks for {idle:?}");
}

/// The words of a crate's own sources. A crate below another one's folder is not its.
fn words_of(folder: &Path) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.join("Cargo.toml").exists() && path.file_name().is_some_and(|name| name != "target") {
            words.append(&mut words_of(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
    words
}
