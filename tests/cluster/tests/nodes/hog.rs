//! A pod that takes a node's memory, as somebody else's program would.

use lime_cluster_tests::Kubectl;
use serde_json::json;

/// The image of pods' namespaces, which has the program too: tests/cluster/harness/nodes.go.
const IMAGE: &str = "lime.dev/test/pause:1";
/// It takes no more while less than so many mebibytes of the node are available: whoever gives way, which is at 64, has the time.
const FLOOR: &str = "46";

/// A hog; dropped, it goes.
#[derive(Debug)]
pub(crate) struct Hog<'a> {
    cluster: &'a Kubectl,
    name: String,
}

impl<'a> Hog<'a> {
    /// Begins to take `mebibytes` of the memory of `node`.
    pub(crate) fn start(cluster: &'a Kubectl, node: &str, mebibytes: u64) -> Self {
        let hog = Self { cluster, name: format!("hog-{node}-{mebibytes}") };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": hog.name, "namespace": "default"},
            "spec": {
                "nodeName": node, "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
                "restartPolicy": "OnFailure",
                "containers": [{
                    "name": "hog", "image": IMAGE, "imagePullPolicy": "Never",
                    "command": ["/hog", mebibytes.to_string(), FLOOR],
                }],
            },
        });
        cluster.run_with(&["apply", "-f", "-"], &pod.to_string()).unwrap();
        hog
    }
}

impl Drop for Hog<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.answer(&["delete", "pod", &self.name, "--grace-period=1"], "");
    }
}
