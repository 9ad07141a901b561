//! The nodes and the image that `make test-nodes` brings.

use std::process::Command;
use std::sync::Once;

use lime_cluster_tests::{Kubectl, repository};

/// The image's name, once every node has it.
pub(crate) fn image() -> String {
    static IMPORTED: Once = Once::new();
    let (file, name) = (variable("LIME_IMAGE"), variable("LIME_IMAGE_NAME"));
    IMPORTED.call_once(|| cluster(&["image", &file]));
    name
}

/// The nodes' names.
pub(crate) fn nodes(cluster: &Kubectl) -> Vec<String> {
    let found = cluster.get(&["nodes", "-l", "lime.dev/test-node"]).unwrap();
    let names = found["items"].as_array().unwrap().iter();
    names.map(|node| node["metadata"]["name"].as_str().unwrap().to_owned()).collect()
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
