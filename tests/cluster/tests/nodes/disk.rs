//! A disk of its own for weights on each node: a small file system that can be filled.

use std::path::PathBuf;
use std::process::Command;

use lime_cluster_tests::Kubectl;
use serde_json::Value;

use crate::machine::nodes;

/// Where it is on every node.
pub(crate) const AT: &str = "/run/lime-weights";
/// What fills it.
const FILLER: &str = "/run/lime-weights/filler";
/// Room enough for each node's part of the bundled model, small enough to be filled at once.
const MEBIBYTES: &str = "32";

/// One on every node, until this is dropped.
pub(crate) struct Disks {
    nodes: Vec<String>,
}

impl Disks {
    /// Makes them, with no more than a megabyte to spare.
    pub(crate) fn full(cluster: &Kubectl) -> Self {
        let disks = Self { nodes: nodes(cluster) };
        let make = format!(
            "mkdir -p {AT} && truncate -s {MEBIBYTES}M /run/lime-weights.img && mkfs.ext4 -q -F -m 0 /run/lime-weights.img && \
             mount -o loop /run/lime-weights.img {AT} && chmod 777 {AT} && \
             free=$(df --output=avail -k {AT} | tail -1) && head -c $(((free - 1024) * 1024)) /dev/zero > {FILLER}"
        );
        disks.everywhere(&make);
        disks
    }

    /// Makes room on them.
    pub(crate) fn make_room(&self) {
        self.everywhere(&format!("rm {FILLER}"));
    }

    fn everywhere(&self, script: &str) {
        for node in &self.nodes {
            assert!(on(node, script), "on {node}: {script}");
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for node in &self.nodes {
            // The node's mounts go with the cluster, whatever becomes of this.
            let _ = on(node, &format!("umount -l {AT}; rm -f /run/lime-weights.img"));
        }
    }
}

/// Runs a script among a node's own mounts.
fn on(node: &str, script: &str) -> bool {
    let folder = std::env::var("LIME_CLUSTER_DIR").expect("LIME_CLUSTER_DIR is not set: run make test-nodes");
    let state = std::fs::read_to_string(PathBuf::from(folder).join("state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let found = state["nodes"].as_array().unwrap().iter().find(|each| each["name"] == node).cloned().unwrap();
    let of = |what: &str, kind: &str| format!("--{what}=/proc/{}/ns/{kind}", found["init"]["pid"]);
    // Among its processes too, whose /proc is the one that is mounted there.
    let (mounts, processes) = (of("mount", "mnt"), of("pid", "pid_for_children"));
    Command::new("nsenter")
        .args([&mounts, &processes, "sh", "-c", script])
        .status()
        .is_ok_and(|status| status.success())
}
