//! The krew manifest, and the archive that goes with it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    version: String,
    short_description: String,
    description: String,
    caveats: String,
    homepage: String,
    platforms: Vec<Platform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    selector: Selector,
    uri: String,
    sha256: String,
    bin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(path: &Path) -> Manifest {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_manifest_is_what_krew_takes() {
    let manifest = read(&root().join("manifests/krew/lime.yaml"));
    assert_eq!(manifest.api_version, "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((manifest.kind.as_str(), manifest.metadata.name.as_str()), ("Plugin", "lime"));
    let spec = manifest.spec;
    assert_eq!(spec.version, concat!("v", env!("CARGO_PKG_VERSION")));
    // krew's own rule for what `kubectl krew search` shows in one line.
    assert!((1..=80).contains(&spec.short_description.len()), "{}", spec.short_description);
    assert!(!spec.description.is_empty() && !spec.caveats.is_empty() && spec.homepage.starts_with("https://"));
    let platforms: Vec<String> = spec
        .platforms
        .iter()
        .map(|platform| format!("{}-{}", platform.selector.match_labels["os"], platform.selector.match_labels["arch"]))
        .collect();
    assert_eq!(platforms, ["linux-amd64", "linux-arm64"]);
    for (platform, name) in spec.platforms.iter().zip(platforms) {
        assert!(platform.uri.ends_with(&format!("/{}/kubectl-lime-{name}.tar.gz", spec.version)), "{}", platform.uri);
        assert_eq!(platform.bin, "kubectl-lime");
        assert!(platform.sha256.len() == 64 && platform.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}

#[test]
fn the_archive_holds_the_plugin_and_the_manifest_its_sum() {
    let folder = tempfile::tempdir().unwrap();
    let packed = Command::new(root().join("operator/kubectl/pack.sh"))
        .args([Path::new(env!("CARGO_BIN_EXE_kubectl-lime")), folder.path()])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let archive = String::from_utf8(packed.stdout).unwrap().trim().to_owned();
    let sum: String = Sha256::digest(fs::read(&archive).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = read(&folder.path().join("lime.yaml"));
    let filled: Vec<&Platform> = manifest.spec.platforms.iter().filter(|platform| platform.sha256 == sum).collect();
    assert_eq!(filled.len(), 1);
    assert!(archive.ends_with(filled[0].uri.rsplit('/').next().unwrap()), "{archive}");
    let unpacked = Command::new("tar").args(["xzf", &archive]).current_dir(folder.path()).status().unwrap();
    assert!(unpacked.success());
    let version = Command::new(folder.path().join("kubectl-lime")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}
