//! The volume of models that deployments of this suite read, lent for one test.

use std::path::Path;

use lime_cluster_tests::{Kubectl, repository};

use crate::machine::model;

/// The volume `models` and its claim in the namespace `llm`. It goes with this value, also where its test fails: a volume belongs to no
/// namespace, and one that stayed would be another test's, with another folder in it.
#[derive(Debug)]
pub(crate) struct Models<'a> {
    cluster: &'a Kubectl,
}

impl<'a> Models<'a> {
    /// The bundled models.
    pub(crate) fn bundled(cluster: &'a Kubectl) -> Self {
        let model = model();
        Self::of(cluster, Path::new(&model).parent().unwrap())
    }

    /// The models of a folder that every node has at the same place.
    pub(crate) fn of(cluster: &'a Kubectl, folder: &Path) -> Self {
        // One that a killed run left goes first: what a volume points at cannot be changed.
        cluster.run(&["delete", "pv", "models", "--ignore-not-found", "--wait", "--timeout=60s"]).unwrap();
        let manifest = std::fs::read_to_string(repository().join("tests/cluster/nodes/models.yaml")).unwrap();
        let manifest = manifest.replace("$MODELS", &folder.display().to_string());
        cluster.run_with(&["apply", "-f", "-"], &manifest).unwrap();
        Self { cluster }
    }
}

impl Drop for Models<'_> {
    fn drop(&mut self) {
        // Not waited for: it goes when its claim does, with the namespace.
        let _ = self.cluster.run(&["delete", "pv", "models", "--ignore-not-found", "--wait=false"]);
    }
}
