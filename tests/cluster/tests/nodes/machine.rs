//! The nodes and the image that `make test-nodes` brings.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use lime_cluster_tests::{Kubectl, repository};
use serde_json::Value;

/// The image's name, once every node has it.
pub(crate) fn image() -> String {
    static IMPORTED: Once = Once::new();
    let (file, name) = (variable("LIME_IMAGE"), variable("LIME_IMAGE_NAME"));
    IMPORTED.call_once(|| cluster(&["image", &file]));
    name
}

/// The same image under another name, as a newer version would be; every node has it.
pub(crate) fn image_again() -> String {
    let (name, newer) = (image(), format!("{}-newer", variable("LIME_IMAGE_NAME")));
    cluster(&["tag-image", &name, &newer]);
    newer
}

/// The nodes' names.
pub(crate) fn nodes(cluster: &Kubectl) -> Vec<String> {
    let found = cluster.get(&["nodes", "-l", "lime.dev/test-node"]).unwrap();
    let names = found["items"].as_array().unwrap().iter();
    names.map(|node| node["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The memory that each node has for its own; `None` where all of them see the machine's.
pub(crate) fn node_memory() -> Option<u64> {
    std::env::var("LIME_TEST_NODE_MEMORY").ok()?.parse().ok().filter(|bytes| *bytes > 0)
}

/// Bytes of memory that a node has left, as it sees itself: tests/cluster/harness/memory.go.
pub(crate) fn available(node: &str) -> u64 {
    let file = PathBuf::from(variable("LIME_CLUSTER_DIR")).join("nodes").join(node).join("run/lime-meminfo");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// Whether the process of a folder in /proc belongs to this cluster: others may run on the machine.
pub(crate) fn is_ours(process: &Path) -> bool {
    let file = PathBuf::from(variable("LIME_CLUSTER_DIR")).join("state.json");
    let state: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let groups = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    groups.contains(&format!(":/lime{}/", state["slot"]))
}

/// The folder of the bundled model, which every node sees at the same path.
pub(crate) fn model() -> String {
    let folder = repository().join("tests/fixtures/models/bard-2m");
    folder.canonicalize().unwrap().display().to_string()
}

/// Runs `tests/cluster/cluster`.
pub(crate) fn cluster(arguments: &[&str]) {
    let program = repository().join("tests/cluster/cluster");
    let done = Command::new(program).args(arguments).status().unwrap();
    assert!(done.success(), "tests/cluster/cluster {}", arguments.join(" "));
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run make test-nodes"))
}
